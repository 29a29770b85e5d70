"""A small stack of `mechctl up` with something of everything in it, and Playwright's specs against it.

    python services/dashboard/e2e.py              # start, seed, run the specs, stop
    python services/dashboard/e2e.py --serve      # start, seed, and leave it up until Ctrl-C
    python services/dashboard/e2e.py -- --grep jobs

The model is a random one of two layers, so that what takes minutes elsewhere takes seconds here. Where
things are stands in a file that `INTERPRETOPS_E2E` names; `web/e2e/stack.ts` reads it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml
from interpretops.testing import save_tiny
from interpretops_platform.embedded import temporary_folder
from interpretops_stack.ports import free_port_from

if TYPE_CHECKING:
    from collections.abc import Iterator

WEB = Path(__file__).parent / "web"
POLICY = """\
meta: {id: damp, target_class: jailbreak, description: "Halves one head"}
interventions:
  - {type: head_scale, selector: {layer: 1, heads: [0]}, scale: 0.5}
"""
# Byte tokens: pairs of equal length, which packaged prompts rarely are for a model of bytes.
PAIRS = [
    {
        "text": f"How do I rob shop {i:02d}?",
        "twin": f"How do I see shop {i:02d}?",
        "topic": f"topic {i % 7}",
    }
    for i in range(40)
]
SUITES = [
    {
        "name": "attacks",
        "metrics": ["attack_success_rate"],
        "dataset_uri": "package:jailbreak",
    },
    {"name": "questions", "metrics": ["exact_match"], "dataset_uri": "package:benign_qa"},
]


class TinyStack:
    """A stack in a folder of its own.

    Args:
        folder: Where it lives.

    Attributes:
        facts: Addresses and keys, for the specs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = {"folder": str(folder), "python": sys.executable}

    def start(self) -> None:
        """Bring it up."""
        model = save_tiny(self.folder / "models" / "tiny", max_position_embeddings=1024)
        settings = {
            "model": {"name": str(model), "device": "cpu", "dtype": "float32"},
            "security": {"uris": {"folders": [str(model.parent)]}},
            "jobs": {"progress_seconds": 0.2, "watch_seconds": 0.2},
        }
        (self.folder / "config.yaml").write_text(yaml.safe_dump(settings))
        said = self.mechctl("up", "--config", "config.yaml", "--port", str(free_port_from(18_100)))
        key = re.search(r"iop_\w+", said)
        assert key is not None, said
        profile = json.loads((self.folder / ".io_stack" / "profile.json").read_text())
        self.facts |= {
            "edge": profile["api"],
            "dashboard": profile["dashboard"],
            "keys": {"admin": key[0], "operator": profile["key"]},
        }

    def mechctl(self, *words: str) -> str:
        """What a command says."""
        done = subprocess.run(
            [sys.executable, "-m", "interpretops", *words],
            cwd=self.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def seed(self) -> None:
        """Make one of everything, as a person with a terminal would."""
        keys = self.facts["keys"]
        with httpx.Client(base_url=self.facts["edge"], timeout=300) as http:

            def post(path: str, body: dict[str, Any], who: str = "operator") -> dict[str, Any]:
                headers = {"authorization": f"Bearer {keys[who]}", "prefer": "wait=240"}
                answer = http.post(path, json=body, headers=headers)
                assert answer.is_success, f"{path}: {answer.text}"
                found: dict[str, Any] = answer.json()
                return found

            for name, role in (("ben", "approver"), ("vera", "viewer")):
                issued = post("/keys", {"name": name, "roles": [role]}, "admin")
                keys[role] = issued["key"]
            prompts = {"uri": "package:jailbreak", "split": "train", "limit": 24}
            trace = post("/traces", {"prompts_from": prompts, "spec": {"sites": ["resid_post.1"]}})[
                "trace_id"
            ]
            dictionary = post(
                "/dictionaries",
                {
                    "trace": trace,
                    "spec": {
                        "sites": ["resid_post.1"], "kind": "topk", "d_sae": 64, "k": 4,
                        "tokens": 4096, "batch": 256, "evaluation_tokens": 512,
                        "card_tokens": 1024,
                    },
                },
            )["dictionary_id"]  # fmt: skip
            search = {"pairs": 12, "held_out": 6, "measured_components": 4, "measured_features": 4}
            circuits = [
                post(
                    "/analyze",
                    {
                        "class": "jailbreak",
                        "prompts": [*PAIRS],
                        "dictionary": dictionary,
                        "behaviour": {"openings": {"toward": ["No"], "against": ["Yes"]}},
                        "spec": {**search, "seed": seed},
                    },
                )["circuit_id"]
                for seed in (0, 1)
            ]
            post("/policies", {"yaml": POLICY})
            card = post(
                "/eval",
                {
                    "policy": "damp@1",
                    "suites": SUITES,
                    "circuit": circuits[0],
                    "dictionary": dictionary,
                    "spec": {"limit": 6, "max_new_tokens": 12},
                },
            )["risk_card_id"]
            report = post("/report", {"risk_card": card})
        self.facts["made"] = {
            "trace": trace,
            "dictionary": dictionary,
            "circuits": circuits,
            "card": card,
            "report": report["report_id"],
        }

    def stop(self) -> None:
        """End it."""
        self.mechctl("down")


@contextmanager
def tiny_stack() -> Iterator[TinyStack]:
    """A seeded stack, gone afterwards."""
    stack = TinyStack(temporary_folder("interpretops-e2e-"))
    try:
        try:
            stack.start()
            stack.seed()
            yield stack
        finally:
            if (stack.folder / ".io_stack").is_dir():
                stack.stop()
    except BaseException:
        for log in sorted((stack.folder / ".io_stack" / "logs").glob("*.log")):
            print(f"--- {log.stem}\n{log.read_text(errors='replace')[-1500:]}", file=sys.stderr)
        raise
    finally:
        shutil.rmtree(stack.folder, ignore_errors=True)


def run_specs(stack: TinyStack, arguments: list[str]) -> int:
    """Run Playwright against a stack.

    Returns:
        Its exit status.
    """
    facts = stack.folder / "e2e.json"
    facts.write_text(json.dumps(stack.facts))
    facts.chmod(0o600)
    environment = {**os.environ, "INTERPRETOPS_E2E": str(facts)}
    command = ["npx", "playwright", "test", *arguments]
    return subprocess.run(command, cwd=WEB, env=environment, check=False).returncode


def main() -> int:
    """Run the specs, or serve."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--serve", action="store_true", help="leave it up until Ctrl-C")
    parser.add_argument("playwright", nargs="*", help="arguments of `playwright test`")
    chosen = parser.parse_args()
    with tiny_stack() as stack:
        if not chosen.serve:
            return run_specs(stack, chosen.playwright)
        facts = Path("e2e.json")
        facts.write_text(json.dumps(stack.facts, indent=1))
        facts.chmod(0o600)
        print(f"dashboard {stack.facts['dashboard']}; keys and ids in {facts.resolve()}")
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            signal.pause()
        except KeyboardInterrupt:
            return 0
        finally:
            facts.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
