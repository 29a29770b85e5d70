"""What an installation on AWS costs, by formula from `inputs.toml`: `python deploy/cost/cost.py`.

Nothing is asked of AWS. Prices, sizes and shares are inputs; this file holds the arithmetic only.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

HOURS = 730.0
"""Of a month, as AWS counts them."""
DAYS = HOURS / 24


class Line(NamedTuple):
    """One line of a bill.

    Attributes:
        what: What is paid for.
        how: How the amount comes about.
        amount: In the currency of the inputs.
    """

    what: str
    how: str
    amount: float


def idle_month(inputs: dict[str, Any]) -> list[Line]:
    """What is there when nothing is done: GPU nodes are not."""
    price, size = inputs["prices"], inputs["sizes"]

    def hourly(what: str, count: float, name: str) -> Line:
        how = f"{count:g} × {HOURS:g} h × {price[name]:g}"
        return Line(what, how, count * HOURS * price[name])

    def monthly(what: str, count: float, name: str) -> Line:
        return Line(what, f"{count:g} × {price[name]:g}", count * price[name])

    return [
        hourly("Kubernetes control plane", 1, "eks_cluster"),
        hourly(f"system nodes ({size['system_node']})", size["system_nodes"], size["system_node"]),
        monthly(
            "their disks, GiB", size["system_nodes"] * size["system_node_gib"], "volume_gib_month"
        ),
        hourly(f"PostgreSQL ({size['database']}, zones)", size["database_zones"], size["database"]),
        monthly(
            "its storage, GiB", size["database_zones"] * size["database_gib"], "database_gib_month"
        ),
        hourly(f"Valkey ({size['broker']}, nodes)", size["broker_nodes"], size["broker"]),
        hourly("NAT gateways", size["nat_gateways"], "nat_gateway"),
        hourly(
            "endpoints of AWS, in each zone",
            size["interface_endpoints"] * size["zones"],
            "interface_endpoint",
        ),
        monthly("artifacts, GiB", size["artifacts_gib"], "bucket_gib_month"),
        monthly("logs taken in, GiB", size["logs_gib_month"], "log_gib"),
        monthly("keys", size["kms_keys"], "kms_key_month"),
        monthly("secrets", size["secrets"], "secret_month"),
    ]


def evaluation_hours(inputs: dict[str, Any]) -> float:
    """GPU hours of one evaluation.

    Prompts are read at the speed of arithmetic, 2 operations for each parameter and token. Answers are
    written at the speed of memory: a step reads every weight once and writes one token for each row.
    """
    gpu, model, evaluation = inputs["gpu"], inputs["model"], inputs["evaluation"]
    answers = evaluation["prompts"] * evaluation["arms"]
    operations = 2 * model["parameters"] * answers * evaluation["prompt_tokens"]
    reading = operations / (gpu["bf16_teraflops"] * 1e12 * gpu["share_of_compute"])
    steps = answers / evaluation["batch"] * evaluation["answer_tokens"]
    weights = model["parameters"] * model["bytes_per_parameter"]
    writing = steps * weights / (gpu["memory_gb_per_second"] * 1e9 * gpu["share_of_bandwidth"])
    around = (gpu["minutes_to_start"] + gpu["minutes_to_leave"]) / 60
    return float((reading + writing) / 3600 + around)


def daily_evaluation(inputs: dict[str, Any]) -> list[Line]:
    """A month of one evaluation a day, on a node that comes for it and goes."""
    hours = evaluation_hours(inputs)
    name = inputs["sizes"]["gpu"]
    price = inputs["prices"][name]
    how = f"{DAYS:.1f} days × {hours:.2f} h × {price:g}"
    return [Line(f"an evaluation a day ({name})", how, DAYS * hours * price)]


def training_tokens(inputs: dict[str, Any]) -> float:
    """Tokens that dictionaries learn from in the hours of training.

    For each token the model runs forward (2 operations for each parameter) and each dictionary learns
    (encoder and decoder, forward and backward: 12 for each entry of one of its two matrices).
    """
    gpu, model, training = inputs["gpu"], inputs["model"], inputs["training"]
    learning = 12 * model["width"] * training["features"] * training["layers"]
    operations = 2 * model["parameters"] + learning
    rate = gpu["bf16_teraflops"] * 1e12 * gpu["share_of_compute"] / operations
    return float(rate * training["hours"] * 3600)


def training_week(inputs: dict[str, Any]) -> list[Line]:
    """One GPU that trains dictionaries without a break."""
    name = inputs["sizes"]["gpu"]
    hours, price = inputs["training"]["hours"], inputs["prices"][name]
    billions = training_tokens(inputs) / 1e9
    how = f"{hours:g} h × {price:g}, for {billions:.1f} billion tokens"
    return [Line(f"training ({name})", how, hours * price)]


def page(inputs: dict[str, Any]) -> str:
    """All three as Markdown."""
    parts = [
        f"In {inputs['currency']}, from prices as of {inputs['as_of']}, which are examples; check yours.\n"
    ]
    for title, lines in (
        ("An idle month", idle_month(inputs)),
        ("A daily evaluation, in a month, on top", daily_evaluation(inputs)),
        ("A week of training dictionaries, on top", training_week(inputs)),
    ):
        rows = [f"| {line.what} | {line.how} | {line.amount:,.0f} |" for line in lines]
        total = sum(line.amount for line in lines)
        rows.append(f"| **{title}** | | **{total:,.0f}** |")
        parts.append("\n".join(["| What | How | Amount |", "| --- | --- | ---: |", *rows]) + "\n")
    return "\n".join(parts)


def main() -> int:
    """Read the inputs and print the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    default = Path(__file__).with_name("inputs.toml")
    parser.add_argument("--inputs", type=Path, default=default, help="your copy of inputs.toml")
    chosen = parser.parse_args()
    try:
        print(page(tomllib.loads(chosen.inputs.read_text(encoding="utf-8"))), end="")
    except KeyError as error:
        print(f"{chosen.inputs} lacks {error.args[0]!r}: give it a figure", file=sys.stderr)
        return 2
    except (OSError, tomllib.TOMLDecodeError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
