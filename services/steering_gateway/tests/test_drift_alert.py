"""From a prompt to a page: requests that shift are counted and compared, and a real Prometheus fires."""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from interpretops.steering import measure_reference
from interpretops.steering.reference import REFERENCE
from interpretops_platform.telemetry.metrics import Metrics
from interpretops_platform.watch_settings import WatchSettings
from interpretops_stack.ports import free_ports
from interpretops_steering_gateway.artifacts import TenantArtifacts
from interpretops_steering_gateway.drift import Comparer, DriftMetrics, compare_all

RULES = Path(__file__).parents[3] / "deploy/prometheus/rules/policies.yaml"
NAME, PER_SIDE = "gated", 120
GATE = {"condition": {"probe": [{"layer": 0, "vector": "v.safetensors#c"}], "threshold": 0.0}}


def usual(first):
    numbers = range(100 + first, 100 + first + 2 * PER_SIDE, 2)
    return [f"Tell me about the number {number}, please." for number in numbers]


def unusual():
    return [f"{'#' * (i % 9)} {i * 7919} {'=' * (i % 5)}" for i in range(2 * PER_SIDE)]


@contextmanager
def prometheus(port):
    """A real one over the shipped rules and one port of metrics; gives what asks it."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (here,) = free_ports(("prometheus",), {}).values()
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [
                {
                    "job_name": "steering-gateway",
                    "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
                }
            ],
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        command = [
            "prometheus",
            f"--config.file={folder / 'config.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{here}",
        ]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                yield f"http://127.0.0.1:{here}/api/v1"
            finally:
                process.terminate()
                process.wait()


async def state_of(api, alert):
    """`inactive`, `pending` or `firing`, with the alert's labels."""
    try:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            found = (await client.get(f"{api}/alerts")).json()["data"]["alerts"]
    except httpx.HTTPError:
        return "away", {}
    for each in found:
        if each["labels"]["alertname"] == alert:
            return each["state"], each["labels"]
    return "inactive", {}


@pytest.mark.slow
async def test_a_planted_drift_pages(open_gateway, installation, capsys):
    if shutil.which("prometheus") is None:
        if os.environ.get("CI"):
            pytest.fail("prometheus is missing: apt-get install prometheus")
        pytest.skip("prometheus is not installed")
    watch = WatchSettings(flush_seconds=0.5, compare_seconds=3600, reference="fit")
    installation.settings = installation.settings.model_copy(update={"watch": watch})
    metrics, began = Metrics(), time.monotonic()
    told = []

    def say(what):
        told.append(f"{time.monotonic() - began:6.1f} s  {what}")

    async with open_gateway() as gateway:
        policy = gateway.policy(NAME, **GATE)
        reference = measure_reference(
            gateway.model, policy, usual(0), unusual()[:1], dictionary=None, chat=False
        )
        (gateway.folder / REFERENCE).write_text(reference.model_dump_json())
        await gateway.activate(NAME, policy)
        artifacts = TenantArtifacts(installation.settings, installation.database)
        comparer, shown = Comparer(installation.database, artifacts, watch), DriftMetrics(metrics)
        latest = {}

        async def compare():
            while True:
                (latest["found"],) = await compare_all(installation.database, comparer)
                shown.show([latest["found"]])
                await asyncio.sleep(1)

        async def until(holds, seconds=400):
            async with asyncio.timeout(seconds):
                while not await holds():
                    await asyncio.sleep(0.5)

        async def send(prompts):
            for prompt in prompts:
                await gateway.generate(prompt, policy_id=NAME, max_new_tokens=1)

        def seen(count):
            async def holds():
                return latest.get("found") and latest["found"].report.requests >= count

            return holds

        exposition = metrics.expose("127.0.0.1", 0)
        comparing = asyncio.create_task(compare())
        with prometheus(exposition.port) as api:
            await send(usual(1))
            await until(seen(PER_SIDE))
            report = latest["found"].report
            say(f"{report.requests} usual requests: {report.verdict}, PSI {report.score.psi:.3f}")
            assert report.verdict == "stable"
            assert latest["found"].reference == "fit"
            assert (await state_of(api, "PolicyDrifted"))[0] in ("inactive", "away")
            await send(unusual())
            await until(seen(3 * PER_SIDE))
            report = latest["found"].report
            say(
                f"{report.requests} with unusual ones: {report.verdict}, PSI {report.score.psi:.2f}"
            )
            assert report.verdict == "drifted"

            async def fires():
                state, labels = await state_of(api, "PolicyDrifted")
                if state == "pending" and not any("pending" in line for line in told):
                    say("PolicyDrifted is pending")
                return state == "firing" and labels["policy"] == NAME

            await until(fires)
            say(f"PolicyDrifted fires for {NAME}")
        comparing.cancel()
        exposition.close()
        artifacts.close()
    with capsys.disabled():
        print("\n" + "\n".join(told) + "\n" + json.dumps(report.reasons, indent=1))
