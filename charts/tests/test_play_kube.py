"""What play_kube runs is what Helm renders: it leaves no program out, and adds none."""

import importlib.util

import pytest

from .conftest import CHART, values_of
from .rendered import Release, environment


@pytest.fixture(scope="module")
def play_kube():
    path = CHART.parents[1] / "deploy/play_kube.py"
    spec = importlib.util.spec_from_file_location("play_kube", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_runs_every_workload_of_the_development_release(play_kube, rendered):
    objects = play_kube.render("localhost/interpretops", "localhost/stand-ins")
    played = {
        (thing["kind"], thing["metadata"]["name"])
        for thing in objects
        if thing["kind"] in ("Deployment", "Job", "Pod")
    }
    release = rendered("dev")
    assert played == {
        (pod.owner["kind"], pod.owner["metadata"]["name"])
        for pod in release.pods()
        if pod.owner["kind"] != "CronJob"
    }
    found = Release({}, values_of("dev"), "interpretops")
    found.objects = objects
    for pod in found.pods():
        before = release.pod(pod.component)
        assert environment(pod.main).keys() == environment(before.main).keys()
        assert pod.main.get("args") == before.main.get("args")
        for container in pod.containers():
            assert container["image"].startswith("localhost/")
            assert container["imagePullPolicy"] == "Never"
