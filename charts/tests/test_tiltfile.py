"""The Tiltfile builds what the chart runs, from folders that exist, and reloads as it says.

Its language is a part of Python, so Python reads it, with stand-ins for what Tilt defines.
"""

import re
import subprocess
import sys
import time

import pytest

from .conftest import CHART, merged, render, values_of

ROOT = CHART.parents[1]


class Tilt:
    """Records what a Tiltfile asks for."""

    def __init__(self):
        self.images = {}
        self.chart = {}
        self.resources = []

    def names(self):
        class Config:
            define_string = staticmethod(lambda *_, **__: None)
            parse = staticmethod(dict)

        return {
            "allow_k8s_contexts": lambda *_: None,
            "config": Config,
            "docker_build": lambda name, context, **options: self.images.update({name: options}),
            "sync": lambda source, target: ("sync", source, target),
            "run": lambda command: ("run", command),
            "helm": lambda path, **options: self.chart.update(path=path, **options),
            "k8s_yaml": lambda *_: None,
            "k8s_resource": lambda name, **_: self.resources.append(name),
            "local_resource": lambda *_, **__: None,
            "TRIGGER_MODE_MANUAL": None,
        }


@pytest.fixture(scope="module")
def tilt():
    recorded = Tilt()
    names = recorded.names()
    exec(compile((ROOT / "Tiltfile").read_text(), "Tiltfile", "exec"), names)
    recorded.reload = names["RELOAD"]
    return recorded


def test_it_builds_every_image_of_the_development_release(tilt):
    assert (ROOT / tilt.chart["path"]).samefile(CHART)
    assert [ROOT / path for path in tilt.chart["values"]] == [CHART / "values-dev.yaml"]
    change = {}
    for item in tilt.chart["set"]:
        path, _, value = item.partition("=")
        value = {"true": True, "false": False}.get(value, value)
        for key in reversed(path.split(".")):
            value = {key: value}
        change = merged(change, value)
    release = render(merged(values_of("dev"), change))
    used = {
        container["image"].partition(":")[0]
        for pod in release.pods()
        if pod.ours
        for container in pod.containers()
    }
    assert used == tilt.images.keys()
    deployments = {thing["metadata"]["name"] for thing in release.of("Deployment")}
    assert set(tilt.resources) == deployments


def test_it_copies_sources_that_are_there_of_the_program_that_runs(tilt):
    text = (ROOT / "deploy/images/Dockerfile").read_text()
    for name, options in tilt.images.items():
        target = re.search(
            rf"^FROM \S+ AS {options['target']}$.*?^ENTRYPOINT (\[.*?\])", text, re.M | re.S
        )
        assert name == f"interpretops/{options['target']}"
        for step in options.get("live_update", []):
            if step[0] == "sync":
                assert (ROOT / step[1]).is_dir(), step
        if "entrypoint" in options:
            assert options["entrypoint"][4:] == eval(target[1])


def test_a_program_is_started_anew_when_its_sources_change(tilt, tmp_path):
    stamp, log = tmp_path / "stamp", tmp_path / "log"
    program = f"print(1, file=open({str(log)!r}, 'a'), flush=True); import time; time.sleep(60)"
    command = [sys.executable, "-c", tilt.reload, str(stamp), sys.executable, "-c", program]
    process = subprocess.Popen(command)

    def started(times):
        deadline = time.monotonic() + 30
        while not log.exists() or len(log.read_text().split()) < times:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    started(1)
    stamp.touch()
    started(2)
    process.terminate()
    assert process.wait(timeout=30) != 0  # as its program, which was ended
