"""Flows that network policies allow are those that the code makes: each of them, and no other.

The policies are judged as Kubernetes does: a connection needs a rule that lets it out and one that lets
it in.
"""

import ast
import ipaddress
import re

import pytest
from interpretops_platform.settings import ServicesSettings

from .conftest import CHART, merged, render, values_of
from .rendered import environment, selects

ROOT = CHART.parents[1]
STORES = {"database": 5432, "redis": 6379, "objects": 7070}


def labels(pod):
    return pod.metadata["labels"]


def policies_of(release, pod, direction):
    return [
        policy["spec"]
        for policy in release.of("NetworkPolicy")
        if direction in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], labels(pod))
    ]


def meets(rule, peers, port, other):
    """Whether a rule speaks of this port and of this pod of the same namespace."""
    if "ports" in rule and port not in [entry["port"] for entry in rule["ports"]]:
        return False
    return any(
        "podSelector" in peer
        and "namespaceSelector" not in peer
        and selects(peer["podSelector"], labels(other))
        for peer in rule[peers]
    )


def ports(pod):
    return {port["name"]: port["containerPort"] for port in pod.main.get("ports", [])}


def sources(folder):
    return "\n".join(path.read_text() for path in sorted((ROOT / folder).rglob("*.py")))


def called_by_the_edge():
    """Services to which the edge's code makes stubs."""
    tree = ast.parse(sources("services/gateway/src/interpretops_gateway"))
    return {
        call.args[1].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "_stub"
    }


def wanted(release):
    """Flows that programs make, from their code and from what they are given."""
    flows = set()
    pods = {pod.component: pod for pod in release.pods()}
    for service in called_by_the_edge():
        component = service.replace("_", "-")
        flows.add(("edge", component, ports(pods[component])["grpc"]))
    if "dashboard" in pods:
        flows.add(("dashboard", "edge", ports(pods["edge"])["http"]))
    if "smoke" in pods:
        flows.add(("smoke", "edge", ports(pods["edge"])["http"]))
    for pod in pods.values():
        files = {
            item["path"]
            for volume in pod.volumes
            if volume["name"] == "secrets"
            for item in volume["secret"]["items"]
        }
        told = environment(pod.main)
        uses = {
            "database": pod.ours and any("_dsn" in name for name in files),
            "redis": pod.ours and "interpretops_redis__url" in files,
            "objects": "INTERPRETOPS_OBJECTS__BUCKET" in told,
        }
        flows |= {
            (pod.component, store, port)
            for store, port in STORES.items()
            if uses[store] and store in pods
        }
    return flows


@pytest.mark.parametrize("name", ["dev", "dev-secured", "eks", "airgapped"])
def test_flows_between_pods_are_those_of_the_code(rendered, name):
    release = rendered(name)
    pods = release.pods()
    out, into = set(), set()
    rules = {
        (pod.name, direction): [
            rule for spec in policies_of(release, pod, direction) for rule in spec.get(key, [])
        ]
        for pod in pods
        for direction, key in (("Egress", "egress"), ("Ingress", "ingress"))
    }
    for source in pods:
        for target in pods:
            for port in ports(target).values():
                leaves = any(
                    meets(rule, "to", port, target) for rule in rules[source.name, "Egress"]
                )
                enters = any(
                    meets(rule, "from", port, source) for rule in rules[target.name, "Ingress"]
                )
                flow = (source.component, target.component, port)
                out |= {flow} if leaves else set()
                into |= {flow} if enters else set()
    assert out == wanted(release)
    assert into == wanted(release)


def test_no_rule_lets_everybody_in_or_out(release):
    for policy in release.of("NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"], policy["metadata"]["name"]
            assert rule["ports"]
        for rule in policy["spec"].get("egress", []):
            assert rule["to"], policy["metadata"]["name"]
            assert rule["ports"]


def test_services_that_the_edge_calls_are_all_there_are():
    assert called_by_the_edge() == set(ServicesSettings.model_fields)


def test_nobody_else_opens_channels_queues_or_stores():
    """What the table of facts says of each program holds of its source."""
    clients = {"gateway"}
    redis = {"gateway"}
    stores = {"gateway", "steering_gateway"}
    for folder in sorted((ROOT / "services").iterdir()):
        text = sources(f"services/{folder.name}/src")
        if folder.name == "dashboard":
            continue  # it has none of these libraries
        assert bool(re.search(r"\bChannels\(", text)) == (folder.name in clients), folder
        assert bool(re.search(r"settings\.redis|create_celery\(", text)) == (
            folder.name in redis
        ), folder
        assert bool(re.search(r"TenantStores\(|S3Blobs\(", text)) == (folder.name in stores), folder


def test_everything_is_denied_that_is_not_named(rendered):
    for name in ("dev", "eks"):
        release = rendered(name)
        for pod in release.pods():
            for direction in ("Ingress", "Egress"):
                assert policies_of(release, pod, direction), pod.name
        deny = release.one("NetworkPolicy", "default-deny")["spec"]
        assert "ingress" not in deny
        assert "egress" not in deny


def test_the_outside_is_reached_where_values_say_so(rendered):
    release = rendered("eks")

    def reached(component):
        found = set()
        for spec in policies_of(release, release.pod(component), "Egress"):
            for rule in spec.get("egress", []):
                for peer in rule["to"]:
                    if "ipBlock" in peer:
                        ipaddress.ip_network(peer["ipBlock"]["cidr"])
                        found |= {(peer["ipBlock"]["cidr"], port["port"]) for port in rule["ports"]}
        return {flow for flow in found if flow[0] != "169.254.20.10/32"}

    vpc, agent = "10.0.0.0/16", ("169.254.170.23/32", 80)
    assert reached("tracer") == {(vpc, 5432)}
    s3 = {(block, 443) for block in ("3.5.164.0/22", "52.95.128.0/21")}
    assert reached("edge") == {(vpc, 5432), (vpc, 6379), (vpc, 443), agent} | s3
    assert reached("worker-sae") == s3 | {
        *((vpc, port) for port in (5432, 6379, 443, 6443)),
        *(("172.20.0.0/16", port) for port in (443, 6443)),
        agent,
    }
    assert reached("dashboard") == set()
    assert reached("migrate") == {(vpc, 5432)}


def test_ports_of_outside_servers_are_those_of_their_addresses():
    values = merged(
        values_of("airgapped"),
        {"objects": {"endpoint": "http://minio.internal:9001"}, "database": {"port": 6432}},
    )
    release = render(values)
    (policy,) = policies_of(release, release.pod("edge"), "Egress")[1:]
    by_block = {
        rule["to"][0]["ipBlock"]["cidr"]: rule["ports"][0]["port"]
        for rule in policy["egress"]
        if "ipBlock" in rule["to"][0]
    }
    assert by_block == {"10.1.0.10/32": 6432, "10.1.0.11/32": 6379, "10.1.0.12/32": 9001}


def test_prometheus_and_the_ingress_reach_what_is_theirs_and_no_more(rendered):
    release = rendered("eks")
    monitoring = {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
    for pod in release.pods():
        lets_in = {
            port["port"]
            for spec in policies_of(release, pod, "Ingress")
            for rule in spec.get("ingress", [])
            for port in rule["ports"]
            if {"namespaceSelector": monitoring} in rule["from"]
        }
        shown = {port for name, port in ports(pod).items() if name == "metrics"}
        assert lets_in == (shown or ({8080} if pod.component == "edge" else lets_in & {8090}))
        from_outside = [
            rule
            for spec in policies_of(release, pod, "Ingress")
            for rule in spec.get("ingress", [])
            if any("ipBlock" in peer for peer in rule["from"])
        ]
        assert bool(from_outside) == (pod.component in ("edge", "dashboard")), pod.name


def test_calls_between_programs_show_certificates(rendered):
    for name in ("eks", "dev-secured"):
        release = rendered(name)
        certificates = {
            certificate["spec"]["secretName"]: certificate["spec"]
            for certificate in release.of("Certificate")
        }
        for component in (*called_by_the_edge(), "edge"):
            pod = release.pod(component.replace("_", "-"))
            told = environment(pod.main)
            assert told["INTERPRETOPS_GRPC__TLS__CERTIFICATE"] == "/run/secrets/tls/tls.crt"
            (volume,) = [volume for volume in pod.volumes if volume["name"] == "tls"]
            certificate = certificates[volume["secret"]["secretName"]]
            use = "client auth" if component == "edge" else "server auth"
            assert use in certificate["usages"]
            if component != "edge":
                edge = environment(release.pod("edge").main)
                address = edge[f"INTERPRETOPS_SERVICES__{component.upper()}"]
                host = address.removeprefix("dns:///").rpartition(":")[0]
                assert host in certificate["dnsNames"]
                assert release.one("Service", host)["spec"]["clusterIP"] == "None"
