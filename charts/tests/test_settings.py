"""What pods are told is what the settings model knows, and every program that exists has its place."""

import ast
import os
import re

import pytest
import yaml
from interpretops_platform.settings import ServicesSettings, Settings, load_settings
from interpretops_service.kinds import KINDS
from pydantic import BaseModel

from charts import copy_files

from .conftest import CHART, merged, render, values_of
from .rendered import environment

ROOT = CHART.parents[1]
FOREIGN = {"AWS_REGION", "AWS_STS_REGIONAL_ENDPOINTS", "HF_HUB_OFFLINE", "OMP_NUM_THREADS"}
OUTSIDE = {"INTERPRETOPS_SECRETS_DIR"}  # read by `load_settings` itself


def known(name):
    """Whether a variable names a setting."""
    model = Settings
    *sections, last = name.removeprefix("INTERPRETOPS_").lower().split("__")
    for section in sections:
        found = model.model_fields.get(section)
        if found is None:
            return False
        candidates = [
            part
            for part in (found.annotation, *getattr(found.annotation, "__args__", ()))
            if isinstance(part, type) and issubclass(part, BaseModel)
        ]
        if not candidates:
            return False
        model = candidates[0]
    return last in model.model_fields


def test_every_variable_is_a_setting(release):
    for pod in release.pods():
        if not pod.ours:
            continue
        for container in pod.containers():
            for name in environment(container):
                assert name in FOREIGN | OUTSIDE or known(name), (pod.name, name)
        for volume in pod.volumes:
            if volume["name"] == "secrets":
                for item in volume["secret"]["items"]:
                    if item["path"].startswith("interpretops_"):
                        assert known(item["path"].upper()), item


def test_a_variable_that_is_no_setting_would_be_found():
    assert known("INTERPRETOPS_GRPC__TLS__KEY")
    assert not known("INTERPRETOPS_GRPC__TLS__KEYS")
    assert not known("INTERPRETOPS_JOB__LEASE_SECONDS")


def test_every_pod_can_read_its_settings(release, tmp_path, monkeypatch):
    """`load_settings` with the very file, variables and folder of secrets that each pod is given."""
    for name in [name for name in os.environ if name.startswith("INTERPRETOPS_")]:
        monkeypatch.delenv(name)
    config = tmp_path / "config.yaml"
    config.write_text(release.one("ConfigMap", "settings")["data"]["config.yaml"])
    for pod in release.pods():
        if not pod.ours or pod.component.startswith("warm-"):
            continue
        secrets = tmp_path / pod.component
        secrets.mkdir()
        for volume in pod.volumes:
            if volume["name"] == "secrets":
                for item in volume["secret"]["items"]:
                    address = "redis" if "redis" in item["key"] else "postgresql"
                    (secrets / item["path"]).write_text(f"{address}://user:word@host/0")
        with monkeypatch.context() as patch:
            for name, value in environment(pod.main).items():
                patch.setenv(name, value)
            patch.setenv("INTERPRETOPS_SECRETS_DIR", str(secrets))
            settings = load_settings(config if "--config" in pod.main.get("args", []) else None)
        if pod.component == "edge":
            settings.app_url()
            for service in ServicesSettings.model_fields:
                host = f"{release.name}-{service.replace('_', '-')}"
                assert getattr(settings.services, service).startswith(f"dns:///{host}:")


def test_secrets_are_read_from_the_links_that_kubernetes_makes(tmp_path, monkeypatch):
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..data").symlink_to("..2026")
    for name, text in {"interpretops_redis__url": "redis://here", "pepper": "x"}.items():
        (tmp_path / "..2026" / name).write_text(text)
        (tmp_path / name).symlink_to(f"..data/{name}")
    monkeypatch.setenv("INTERPRETOPS_SECRETS_DIR", str(tmp_path))
    assert load_settings().redis.url.get_secret_value() == "redis://here"


def test_every_queue_has_workers_and_what_scales_them(release):
    workers = {pod.component: pod for pod in release.pods() if pod.component.startswith("worker-")}
    taken = set()
    for pod in workers.values():
        arguments = pod.main["args"]
        taken |= set(arguments[1 : arguments.index("--config")])
    assert taken == KINDS.keys()
    if not release.values.get("scaling", {}).get("enabled"):
        assert release.of("ScaledObject") == []
        return
    for component, pod in workers.items():
        scaler = release.one("ScaledObject", component)
        assert scaler["spec"]["scaleTargetRef"]["name"] == pod.owner["metadata"]["name"]
        assert "replicas" not in pod.owner["spec"]
        trigger = scaler["spec"]["triggers"][0]
        assert trigger["type"] == "postgresql"
        kinds = re.findall(r"'([a-z]+)'", trigger["metadata"]["query"])
        arguments = pod.main["args"]
        assert kinds == arguments[1 : arguments.index("--config")]
        assert re.findall(r"'([A-Z]+)'", trigger["metadata"]["query"]) == ["QUEUED", "RUNNING"]


def test_a_worker_that_is_stopped_has_time_to_hand_its_job_back(release):
    for pod in release.pods():
        if pod.component.startswith("worker-"):
            drain = float(environment(pod.main)["INTERPRETOPS_JOBS__DRAIN_SECONDS"])
            assert pod.spec["terminationGracePeriodSeconds"] >= drain + 60


def test_stops_are_calm(release):
    """Whoever serves is given the time that its settings take to end calls, and some."""
    for pod in release.pods():
        told = environment(pod.main)
        patience = float(
            told.get("INTERPRETOPS_GRPC__GRACE_SECONDS")
            or told.get("INTERPRETOPS_EDGE__DRAIN_SECONDS")
            or 0
        )
        if patience:
            asleep = pod.main["lifecycle"]["preStop"]["sleep"]["seconds"]
            lame = float(told.get("INTERPRETOPS_GRPC__LAME_DUCK_SECONDS", 0))
            assert pod.spec["terminationGracePeriodSeconds"] > patience + asleep + lame


def test_every_image_is_a_target_of_the_dockerfile_and_starts_as_there(release):
    text = (ROOT / "deploy/images/Dockerfile").read_text()
    stages = re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", text, re.M | re.S)
    commands = {
        name: yaml.safe_load(found[1])
        for name, body in stages
        if (found := re.search(r"^ENTRYPOINT (\[.*\])", body, re.M))
    }
    used = set()
    for pod in release.pods():
        for container in pod.containers():
            image = container["image"]
            if not pod.ours:
                continue
            target = re.split(r"[@:]", image.rpartition("/")[2])[0]
            assert target in commands, image
            used.add(target)
    if release.values.get("dashboard", {}).get("enabled", True):
        assert used == commands.keys()


def test_commands_are_those_of_the_programs(rendered):
    verbs = {"migrate", "prepare", "keep", "retain", "nightly", "wait", "found"}
    source = (ROOT / "libs/interpretops-platform/src/interpretops_platform/__main__.py").read_text()
    strings = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    assert verbs <= strings
    for name in ("dev", "eks"):
        for pod in rendered(name).pods():
            for container in pod.containers():
                if pod.ours and "/platform" in container["image"] and "args" in container:
                    assert container["args"][0] in verbs


def test_probes_ask_what_programs_answer(release):
    routes = (ROOT / "services/gateway/src/interpretops_gateway/routes/operations.py").read_text()
    for pod in release.pods():
        ports = {port["name"]: port["containerPort"] for port in pod.main.get("ports", [])}
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = pod.main.get(name, {})
            if "grpc" in probe:
                assert (
                    str(probe["grpc"]["port"])
                    == environment(pod.main)["INTERPRETOPS_GRPC__HEALTH_PORT"]
                )
            elif "httpGet" in probe:
                assert probe["httpGet"]["port"] in ports
                if pod.component == "edge":
                    assert f'"{probe["httpGet"]["path"]}"' in routes
        if pod.owner["kind"] == "Deployment" and not pod.component.startswith("warm-"):
            assert "readinessProbe" in pod.main, pod.name


@pytest.mark.parametrize("path", ["values-dev.yaml", "values-eks.yaml", "values-airgapped.yaml"])
def test_config_of_values_files_is_settings(path):
    values = yaml.safe_load((CHART / path).read_text())
    Settings(**values.get("config", {}))


def test_a_changed_setting_replaces_pods():
    def sums(values):
        return {
            pod.metadata["annotations"]["checksum/settings"]
            for pod in render(values).pods()
            if pod.metadata.get("annotations", {}).get("checksum/settings")
        }

    base = values_of("dev")
    changed = merged(base, {"config": {"compliance": {"retention_days": 3}}})
    assert len(sums(base)) == 1
    assert sums(base) != sums(changed)


def test_files_that_helm_reads_are_those_of_deploy():
    assert copy_files.wanted()
    assert copy_files.stale() == [], "run python charts/copy_files.py"
