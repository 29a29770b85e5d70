"""What a pod may do: Pod Security "restricted", secrets as files for those that need them, no more."""

import re

import pytest
import yaml

from .conftest import CHART, merged, render, values_of
from .rendered import environment

ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
# The bundled S3 server reads its login from variables alone.
SECRETS_IN_VARIABLES = {"ROOT_ACCESS_KEY_ID", "ROOT_SECRET_ACCESS_KEY"}


def test_every_pod_is_restricted(release):
    for pod in release.pods():
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"] is True, pod.name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, pod.name
        assert security["runAsUser"] > 0, pod.name
        for field in ("hostNetwork", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace"):
            assert field not in pod.spec, pod.name
        for volume in pod.volumes:
            (kind,) = volume.keys() - {"name"}
            assert kind in ALLOWED_VOLUMES, (pod.name, volume)
        for container in pod.containers():
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, pod.name
            assert own["capabilities"] == {"drop": ["ALL"]}, pod.name
            assert own["seccompProfile"] == {"type": "RuntimeDefault"}, pod.name
            assert own["readOnlyRootFilesystem"] is True, pod.name
            assert "privileged" not in own
            assert not any("hostPort" in port for port in container.get("ports", []))


def test_every_container_says_what_it_takes(release):
    for pod in release.pods():
        for container in pod.containers():
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys(), pod.name
            assert "memory" in resources["limits"], pod.name
            assert "cpu" not in resources["limits"], pod.name


def test_no_pod_has_a_token_but_workers_that_mark_themselves(release):
    scaling = release.values.get("scaling", {})
    marking = scaling.get("enabled", False) and scaling.get("protectRunning", True)
    for pod in release.pods():
        expected = marking and pod.component.startswith("worker-")
        assert pod.spec["automountServiceAccountToken"] is expected, pod.name
        assert pod.spec["enableServiceLinks"] is False, pod.name
        assert (environment(pod.main).get("INTERPRETOPS_JOBS__MARK_POD") == "true") is expected
    kinds = {thing["kind"] for thing in release.objects}
    assert ("ValidatingAdmissionPolicy" in kinds) is marking
    assert ("Role" in kinds) is marking
    assert "ClusterRole" not in kinds


def test_service_accounts_exist_and_each_program_has_its_own(release):
    made = {account["metadata"]["name"] for account in release.of("ServiceAccount")}
    used = {}
    for pod in release.pods():
        if not pod.ours or pod.component.startswith("warm-"):
            continue
        if "serviceAccountName" in pod.spec:
            used.setdefault(pod.spec["serviceAccountName"], set()).add(pod.component)
    assert used.keys() == made
    for account, components in used.items():
        # What keepers do too, and what makes tenants in their pods otherwise, are keepers to AWS.
        alike = {"keeper"} if account.endswith("-keeper") else set()
        others = {c for c in components if not c.startswith("worker-")} - {"smoke", "retention"}
        assert len(alike | others) <= 1, (account, components)


def test_roles_stand_on_accounts_with_irsa_and_in_aws_with_pod_identity(rendered):
    def annotated(name):
        return {
            account["metadata"]["name"].removeprefix("interpretops-")
            for account in rendered(name).of("ServiceAccount")
            if "eks.amazonaws.com/role-arn" in account["metadata"].get("annotations", {})
        }

    assert annotated("eks-irsa") == {"edge", "steering-gateway", "keeper", "worker"}
    assert annotated("eks") == set()


def test_secrets_are_files_of_those_who_need_them(release):
    holders = {}
    for pod in release.pods():
        for volume in pod.volumes:
            if "secret" not in volume:
                continue
            assert volume["secret"]["defaultMode"] == 0o440, pod.name
            if volume["name"] == "secrets":
                for item in volume["secret"]["items"]:
                    holders.setdefault(item["key"], set()).add(pod.component)
        for container in pod.containers():
            for variable in container.get("env", []):
                if "valueFrom" in variable:
                    assert variable["name"] in SECRETS_IN_VARIABLES, pod.name
    workers = {pod.component for pod in release.pods() if pod.component.startswith("worker-")}
    founding = {"smoke"} & holders["interpretops_database__app_dsn"]
    assert holders["interpretops_database__owner_dsn"] == {"migrate"}
    assert (
        holders["interpretops_database__system_dsn"]
        == {"keeper", "retention", "nightly"} | workers | founding
    )
    assert holders["interpretops_redis__url"] == {"edge", "keeper"} | workers
    assert holders["pepper"] == {"edge", "keeper"} | founding
    assert "scaler-dsn" not in holders  # read by the autoscaler, not by a pod


def test_whatever_a_pod_mounts_is_in_the_secret(release):
    made = {}
    for secret in release.of("Secret"):
        made[secret["metadata"]["name"]] = set(secret["data"])
    for secret in release.of("ExternalSecret"):
        made[secret["metadata"]["name"]] = {item["secretKey"] for item in secret["spec"]["data"]}
    if not made:
        pytest.skip("its Secrets are somebody else's")
    for pod in release.pods():
        for volume in pod.volumes:
            if "secret" in volume and volume["name"] == "secrets":
                keys = {item["key"] for item in volume["secret"]["items"]}
                assert keys <= made[volume["secret"]["secretName"]], pod.name
    for trigger in release.of("TriggerAuthentication"):
        for reference in trigger["spec"]["secretTargetRef"]:
            assert reference["key"] in made[reference["name"]]


def test_generated_secrets_are_never_the_same_and_addresses_hold_their_passwords():
    first, second = (render(values_of("dev")).one("Secret", "secrets")["data"] for _ in range(2))
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)


def test_no_value_is_secret(release):
    """No value can hold a password, and what is rendered names none outside a Secret."""
    suspicious = re.compile(r"(password|passwd|secret[_-]?key|access[_-]?key|token|dsn)$", re.I)

    def leaves(value, path=()):
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from leaves(inner, (*path, str(key)))
        else:
            yield path, value

    for path, _ in leaves(yaml.safe_load((CHART / "values.yaml").read_text())):
        assert not suspicious.search(path[-1]), path
    for path, text in release.texts.items():
        if "/secrets.yaml" not in path:
            assert not re.search(r"://[^/\s:]+:[^@\s$]+@", text), path


def test_images_are_pinned_where_that_is_asked_for(rendered):
    for pod in rendered("eks").pods():
        for container in pod.containers():
            assert re.search(r"@sha256:[0-9a-f]{64}$", container["image"]), pod.name


def test_more_labels_do_not_reach_selectors():
    release = render(merged(values_of("dev"), {"commonLabels": {"team": "safety"}}))
    for deployment in release.of("Deployment"):
        assert deployment["metadata"]["labels"]["team"] == "safety"
        assert "team" not in deployment["spec"]["selector"]["matchLabels"]
