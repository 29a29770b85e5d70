"""Values that contradict one another are refused with a sentence that says what to set."""

import helm_python as helm
import pytest

from .conftest import merged, render, values_of

CASES = [
    ("dev", {"workers": {"all": {"enabled": False}}}, "set workers.trace.enabled to true"),
    ("eks", {"workers": {"eval": {"enabled": False}}}, "no worker takes jobs of kind eval"),
    ("eks", {"workers": {"sae": {"autoscaling": {"min": 9}}}}, "set max to at least 9"),
    ("eks", {"edge": {"autoscaling": {"min": 99}}}, "edge.autoscaling.min is above its max"),
    ("eks", {"models": {"s3": {"bucket": ""}}}, "set models.s3.bucket"),
    ("eks", {"workers": {"sae": {"models": {"readOnly": False}}}}, "models.readOnly to true"),
    ("airgapped", {"workerDefaults": {"models": {"claim": ""}}}, "the name of a PersistentVolume"),
    (
        "airgapped",
        {"steering_gateway": {"models": {"claim": ""}}},
        "set steering_gateway.models.cl",
    ),
    ("eks", {"database": {"host": ""}}, "set database.host"),
    ("dev", {"database": {"host": "db"}}, "set one of them"),
    ("dev", {"objects": {"endpoint": "http://s3"}}, "set one of them"),
    ("eks", {"objects": {"bucket": ""}}, "set objects.bucket"),
    ("eks", {"objects": {"region": ""}}, "set it to the region of the bucket"),
    ("dev", {"objects": {"credentials": "role"}}, "set objects.credentials to keys"),
    ("dev", {"objects": {"pathStyle": False}}, "set objects.pathStyle to true"),
    ("dev", {"objects": {"sse": "s3"}}, "set objects.sse to none"),
    ("eks", {"aws": {"identity": "none"}}, "set aws.identity to irsa or pod-identity"),
    ("eks", {"aws": {"identity": "irsa"}}, "set aws.roles"),
    ("eks", {"aws": {"roles": {"edge": "arn:aws:iam::123456789012:role/x"}}}, "read by IRSA only"),
    ("eks", {"aws": {"region": ""}}, "aws.region is empty"),
    ("eks", {"objects": {"kmsKeyId": ""}}, "set objects.kmsKeyId"),
    ("eks", {"objects": {"sse": "s3"}}, "set objects.sse to kms"),
    ("eks", {"secrets": {"mode": "generated"}}, "generated secrets fit bundled stores only"),
    ("dev", {"secrets": {"mode": "existing"}}, "set secrets.mode to generated"),
    ("eks", {"secrets": {"external": {"store": {"name": ""}}}}, "set secrets.external.store.name"),
    ("eks", {"secrets": {"external": {"ownerKey": ""}}}, "secrets.external.ownerKey"),
    ("eks", {"requestScaling": {"prometheus": ""}}, "requestScaling.via to adapter"),
    ("eks", {"edge": {"ingress": {"host": ""}}}, "set edge.ingress.host"),
    ("eks", {"dashboard": {"publicUrl": ""}}, "set dashboard.publicUrl"),
    ("eks", {"networkPolicy": {"ingressFrom": []}}, "set networkPolicy.ingressFrom"),
    ("eks", {"networkPolicy": {"monitoringFrom": []}}, "set networkPolicy.monitoringFrom"),
    ("eks", {"telemetry": {"collector": []}}, "set telemetry.collector"),
    *(
        ("eks", {"networkPolicy": {"cidrs": {name: []}}}, f"networkPolicy.cidrs.{name}")
        for name in ("database", "redis", "objects", "cloud", "kubernetes")
    ),
    ("eks", {"networkPolicy": {"cidrs": {"hub": ["0.0.0.0/0"]}}}, "so nothing is fetched"),
    ("eks", {"image": {"digests": {"edge": ""}}}, "does not match pattern"),
    ("dev", {"config": {"grpc": {"tls": {"key": "x"}}}}, "use tls.enabled"),
    ("dev", {"config": {"database": {"owner_dsn": "x"}}}, "config.database.owner_dsn is not for"),
    ("dev", {"config": {"objects": {"bucket": "x"}}}, "config.objects.bucket is not for config"),
]


@pytest.mark.parametrize(("base", "change", "sentence"), CASES)
def test_the_fix_is_said(base, change, sentence):
    with pytest.raises(helm.HelmError) as refused:
        render(merged(values_of(base), change))
    assert sentence in str(refused.value)


def test_an_image_without_a_digest_is_named():
    values = values_of("eks")
    del values["image"]["digests"]["edge"]
    with pytest.raises(helm.HelmError, match=r"set image\.digests\.edge to sha256"):
        render(values)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(helm.HelmError) as refused:
        render({})
    assert all(
        part in str(refused.value)
        for part in ("set database.host", "set objects.bucket", "networkPolicy.cidrs.redis")
    )
