"""Every release of the matrix is what Kubernetes and the operators that it relies on accept."""

import functools
import json
from pathlib import Path

import helm_python as helm
import jsonschema
import kubernetes_validate
import kubernetes_validate.utils
import pytest
import yaml

from .conftest import CHART, MATRIX, chart, merged, render, values_of

KUBERNETES = ("1.30", "1.34")
FOREIGN = {
    path.name.partition(".")[0]: json.loads(path.read_text())
    for path in (Path(__file__).parent / "schemas").glob("*.json")
}


# It reads all definitions of a version for every object.
kubernetes_validate.utils.schema_contents = functools.cache(
    kubernetes_validate.utils.schema_contents
)


def require_valid(thing):
    """Raise where an object is not as its definition says."""
    _require_valid(json.dumps(thing, sort_keys=True))


@functools.cache  # releases of the matrix have most objects in common
def _require_valid(text):
    thing = json.loads(text)
    schema = FOREIGN.get(thing["kind"].lower())
    if schema is None:
        for version in KUBERNETES:
            kubernetes_validate.validate(thing, version, strict=True)
    else:
        jsonschema.validate(thing, schema)


@pytest.mark.parametrize("name", MATRIX)
def test_lint_finds_nothing(name):
    found = helm.lint(str(CHART), values_of(name), strict=True, namespace="ops")
    assert found["errors"] == []
    assert [message for message in found["messages"] if message["severity"] > 1] == []


def test_every_object_is_valid(release):
    assert len(release.objects) > 40
    for thing in release.objects:
        require_valid(thing)


def test_all_foreign_kinds_are_rendered_somewhere(rendered):
    kinds = {thing["kind"].lower() for name in MATRIX for thing in rendered(name).objects}
    rules = any((CHART / "files/rules").glob("*.yaml"))
    assert FOREIGN.keys() - kinds == (set() if rules else {"prometheusrule"})


@pytest.mark.parametrize(
    ("kind", "name", "spoil"),
    [
        ("Deployment", "edge", lambda spec: spec["template"]["spec"].update(nodeSelektor={})),
        ("ScaledObject", "worker-trace", lambda spec: spec.update(minReplicas=1)),
        ("Certificate", "tracer", lambda spec: spec.pop("issuerRef")),
        ("ExternalSecret", "secrets", lambda spec: spec.update(refreshInterval=5)),
        ("ServiceMonitor", "services", lambda spec: spec["endpoints"][0].update(intervall="1m")),
    ],
)
def test_an_invalid_object_would_be_found(rendered, kind, name, spoil):
    thing = json.loads(json.dumps(rendered("eks").one(kind, name)))
    require_valid(thing)
    spoil(thing["spec"])
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        require_valid(thing)


def test_names_are_used_once_and_fit(rendered):
    long = render(merged(values_of("eks"), {"fullnameOverride": "a" * 60}))
    for release in (rendered("eks"), long):
        seen = set()
        for thing in release.objects:
            key = (thing["kind"], thing["metadata"]["name"])
            assert key not in seen
            seen.add(key)
            assert len(thing["metadata"]["name"]) <= 63


def test_a_second_release_shares_no_name_with_the_first(rendered):
    def names(release):
        return {(thing["kind"], thing["metadata"]["name"]) for thing in release.objects}

    assert not names(rendered("dev")) & names(render(values_of("dev"), name="other"))


def test_every_default_is_described_and_unknown_values_are_refused():
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())

    def resolved(part):
        return schema["definitions"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part

    def walk(part, value, where):
        part = resolved(part)
        assert "description" in part or "items" in part or not where, where
        if part.get("type") != "object" or part.get("additionalProperties") is not False:
            return
        if where in (".image.digests", ".aws.roles"):
            return  # closed maps whose keys all may be absent
        known = part.get("properties", {})
        for key, inner in value.items():
            free = list(part.get("patternProperties", {}).values())
            assert key in known or free, f"{where}.{key} is in values.yaml and not in the schema"
            walk(known.get(key) or free[0], inner or {}, f"{where}.{key}")
        for key in known.keys() - value.keys() - {"global", "affinity", "claims"}:
            optional = {"nodeSelector", "tolerations", "priorityClassName", "podAnnotations", "env"}
            assert key in optional or where.startswith((".workers.", ".steering_gateway")), (
                f"{where}.{key} has no default in values.yaml"
            )

    walk(schema, defaults, "")
    for wrong in ({"edgge": {}}, {"edge": {"replica": 1}}, {"workers": {"trace": {"gpu": 1}}}):
        with pytest.raises(helm.HelmError, match="additional properties"):
            chart().render(merged(values_of("dev"), wrong), name="x", namespace="ops")
