"""Show the alert on drift with everything real: platform, Prometheus, a policy, prompts that shift.

    python deploy/prometheus/show_drift_alert.py [--folder FOLDER] [--port 8390]

It starts a stack of its own (`mechctl up`), fits a small policy, puts it into production, sends it ordinary
prompts until a verdict is possible, then attacks in disguise, and waits until Prometheus says that
`PolicyDrifted` fires, and until an alarm stands at the edge. Debian's `prometheus` must be installed.
It takes some ten minutes on two cores, most of them the fit, and ends with status 0 if all came as it
should.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml
from interpretops import Client
from interpretops.demo import DemoData
from interpretops_platform.embedded import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.prompts import Prompt

HERE = Path(__file__).resolve().parent
NAME, MODEL = "watched-v1", "smollm2-135m-instruct"
PER_SIDE = 150
"""Requests of either kind: a verdict takes a hundred."""
SETTINGS: dict[str, dict[str, Any]] = {
    "security": {"separation_of_duties": False},  # one person shows it
    "watch": {"flush_seconds": 1, "compare_seconds": 5, "look_seconds": 5, "canary_hour": None},
}
STEP = re.compile(r"interpretops_\w+")


def say(what: str) -> None:
    """Print a line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {what}", flush=True)


class Prometheus:
    """The real one, over a stack's targets.

    Args:
        folder: Where it keeps its series.
        targets: The file in which the stack says where metrics are.
        port: Where it answers.
    """

    def __init__(self, folder: Path, targets: Path, port: int) -> None:
        config = yaml.safe_load((HERE / "prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "2s", "evaluation_interval": "2s"}
        config["rule_files"] = [str(HERE / "rules" / "*.yaml")]
        config["scrape_configs"][0]["file_sd_configs"] = [{"files": [str(targets)]}]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10)

    def get(self, path: str, **query: str) -> Any:
        """An answer of its API; none while it does not answer."""
        try:
            return self._client.get(path, params=query).json()["data"]
        except httpx.HTTPError:
            return None

    def value(self, expression: str) -> float | None:
        """The value of an expression now, if it has one."""
        found = self.get("/query", query=expression)
        return float(found["result"][0]["value"][1]) if found and found["result"] else None

    def alert(self, name: str) -> str:
        """`firing`, `pending` or `inactive`."""
        alerts = (self.get("/alerts") or {"alerts": []})["alerts"]
        states = [alert["state"] for alert in alerts if alert["labels"]["alertname"] == name]
        return max(states, default="inactive", key=("inactive", "pending", "firing").index)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
        self._log.close()


def until(what: str, holds: Any, seconds: float) -> Any:
    """Wait until something holds, and give it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        time.sleep(1)
    raise SystemExit(f"gave up waiting: {what}")


@dataclass(frozen=True)
class Prompts:
    """What the policy is fitted to, and what it is sent: none of the latter is among the former.

    Attributes:
        fitting: As `POST /policies/propose` takes it.
        usual: Ordinary prompts, drawn as those that it was checked on.
        unusual: Attacks in disguise.
    """

    fitting: dict[str, list[Prompt]]
    usual: list[str]
    unusual: list[str]

    @classmethod
    def packaged(cls) -> Prompts:
        """Parts of the packaged prompts."""
        whole = DemoData(None).fitting()
        ordinary = spread(whole.validation_harmless, 2 * PER_SIDE)
        attacks = [prompt for prompt in whole.validation_risky if prompt.wrapper is not None]
        fitting = {
            "train_risky": spread(whole.train_risky, 64),
            "train_harmless": spread(whole.train_harmless, 64),
            "validation_risky": spread(whole.validation_risky, 32),
            "validation_harmless": ordinary[::2],
        }
        usual = [prompt.text for prompt in ordinary[1::2]]
        return cls(fitting, usual, [prompt.text for prompt in spread(attacks, PER_SIDE)])


def spread(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """So many prompts, evenly spread over the list."""
    return [prompts[i * len(prompts) // count] for i in range(min(count, len(prompts)))]


def fitted(client: Client, data: dict[str, list[Prompt]], folder: Path) -> None:
    """Put a policy into production that is fitted to these prompts, which callers may name by file."""
    counts = ", ".join(f"{len(some)} {name.replace('_', ' ')}" for name, some in data.items())
    say(f"fitting a policy to {counts}")
    given = {}
    for name, some in data.items():
        file = folder / f"{name}.jsonl"
        lines = [prompt.model_dump_json(exclude_none=True) for prompt in some]
        file.write_text("".join(f"{line}\n" for line in lines))
        given[name] = {"uri": file.as_uri()}
    spec = {"policy_id": NAME, "steps": 4, "fit_prompts": 8, "check_prompts": 8, "strengths": [1.0]}
    job = client.jobs.wait(client.policies.propose(data=given, spec=spec))
    made = client.policies.create(artifact=job.result, model=MODEL)
    for step in (client.policies.put_forward, client.policies.approve, client.policies.activate):
        step(made.name, made.version)
    say(f"{made.name}@{made.version} is in production ({job.result})")


def send(client: Client, prompts: list[str]) -> None:
    """Ask for the first token under the policy, of each prompt."""

    def ask(prompt: str) -> None:
        client.chat([{"role": "user", "content": prompt}], model=MODEL, policy=NAME, max_tokens=1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, prompts))


def missing(prometheus: Prometheus) -> list[str]:
    """Metrics that boards or rules name and that this Prometheus has never seen."""
    text = "".join(
        path.read_text()
        for path in (*HERE.glob("rules/*.yaml"), *(HERE.parent / "grafana").glob("*.json"))
    )
    seen = set(prometheus.get("/label/__name__/values"))
    return sorted(set(STEP.findall(text)) - seen)


def main() -> int:
    """Show it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="keep everything there, and the stack running")
    parser.add_argument("--port", type=int, default=8390)
    chosen = parser.parse_args()
    if shutil.which("prometheus") is None:
        raise SystemExit("prometheus is not installed: apt-get install prometheus")
    mechctl = [sys.executable, "-m", "interpretops"]
    with ExitStack() as stack:
        folder = chosen.folder
        if folder is None:
            folder = temporary_folder("interpretops-drift-")
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / "stack"
        config = folder / "config.yaml"
        named = folder / "prompts"
        named.mkdir(exist_ok=True)
        settings = {
            **SETTINGS,
            "security": {**SETTINGS["security"], "uris": {"folders": [str(named)]}},
        }
        config.write_text(yaml.safe_dump(settings))
        up = ["up", "--data", str(data), "--port", str(chosen.port), "--config", str(config)]
        key = folder / "admin.key"
        ran = subprocess.run([*mechctl, *up], stdout=subprocess.PIPE, text=True, check=False)
        if ran.returncode:
            return ran.returncode  # it has said why
        shown = ran.stdout
        if not chosen.folder:
            stack.callback(subprocess.run, [*mechctl, "down", "--data", str(data)], check=False)
        found = re.search(r"iop_\w+", shown)
        if found is not None:
            key.write_text(found[0])
        say(f"the platform is up at port {chosen.port}")
        prometheus = Prometheus(
            folder / "prometheus", data / "prometheus-targets.json", chosen.port + 1
        )
        stack.callback(prometheus.close)
        client = stack.enter_context(
            Client(f"http://127.0.0.1:{chosen.port}", api_key=key.read_text())
        )
        prompts = Prompts.packaged()
        names = [version.name for version in client.policies.list() if version.state == "active"]
        if NAME not in names:
            fitted(client, prompts.fitting, named)
        return show(client, prometheus, prompts, chosen.port, key.read_text())


def show(client: Client, prometheus: Prometheus, prompts: Prompts, port: int, key: str) -> int:
    """Send what is usual, then what is not, and tell what Prometheus says."""
    edge = httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {key}"}, timeout=60
    )
    level = f'max(interpretops_policy_drift_level{{policy="{NAME}"}})'
    count = f'max(interpretops_policy_window_requests_count{{policy="{NAME}"}})'
    psi = f'max(interpretops_policy_score_psi_ratio{{policy="{NAME}"}})'
    usual, unusual = prompts.usual, prompts.unusual
    say(f"sending {len(usual)} ordinary prompts")
    send(client, usual)
    until("requests are counted", lambda: (prometheus.value(count) or 0) >= len(usual), 120)
    report = edge.get(f"/drift/{NAME}").json()["report"]
    say(
        f"ordinary: verdict {report['verdict']}, n {report['requests']} against "
        f"{report['reference_requests']}, PSI {report['score']['psi']:.3f}, acts on "
        f"{report['condition']['window']:.1%}; PolicyDrifted is {prometheus.alert('PolicyDrifted')}"
    )
    ordinary = prometheus.alert("PolicyDrifted")
    say(f"sending {len(unusual)} attacks in disguise")
    began = time.monotonic()
    send(client, unusual)
    until("the level says drifted", lambda: prometheus.value(level) == 2, 120)
    say(
        f"the gauge says drifted after {time.monotonic() - began:.0f} s; PSI {prometheus.value(psi):.2f}"
    )
    until("the alert fires", lambda: prometheus.alert("PolicyDrifted") == "firing", 300)
    say(f"PolicyDrifted fires after {time.monotonic() - began:.0f} s (it waits for two minutes)")
    report = edge.get(f"/drift/{NAME}").json()["report"]
    for reason in report["reasons"]:
        say(f"  because {reason}")
    for advice in report["advice"]:
        say(f"  do: {advice}")
    (alarm,) = edge.get("/alarms?open=true&kind=drift").json()["items"]
    say(f"alarm {alarm['id']}: {json.dumps(alarm['body'].get('psi'))}, opened {alarm['opened_at']}")
    known = edge.post(f"/alarms/{alarm['id']}/acknowledge", json={"note": "shown on purpose"})
    say(f"acknowledged by {known.json()['acknowledged_by']}")
    unseen = missing(prometheus)
    say(f"metrics that boards or rules name and that were not seen here: {unseen or 'none'}")
    return 0 if ordinary == "inactive" else 1


if __name__ == "__main__":
    sys.exit(main())
