"""Run the chart's development release in containers on this machine, and put the smoke test through it.

    python deploy/play_kube.py --images localhost/interpretops [--stand-ins localhost/stand-ins] [--keep]

Helm's own library renders the chart with `values-dev.yaml`, and `podman play kube` runs what came out: the
very images, commands, variables, users, capabilities and read-only roots. This program
stands in for what podman has not, and for nothing else:

    Service          an alias of its pod on one network; so a Service has its pod's port here
    volumes          folders owned by the pod's group, as the kubelet makes them; Secrets with their mode
    init containers  pods that run to their end before
    restarts         none: a program that ends also ends the run
    probes           asked by this program, over the network or inside, as often as they say
    Job, test hook   a pod that runs to its end
    left out         what only a cluster has: NetworkPolicy, ServiceAccount, PodDisruptionBudget, CronJob,
                     topology spread, limits on memory, sleeping before a stop

It needs `helm-python-sdk` and `grpcio-health-checking` (`make setup` has both) and podman as root.
"""

import argparse
import base64
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import helm_python as helm
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts/interpretops"
RELEASE = "interpretops"
THIRD_PARTY = {"database": "postgres", "redis": "valkey", "objects": "versitygw"}
STORES = tuple(THIRD_PARTY)
UNKNOWN_TO_PODMAN = (
    *("topologySpreadConstraints", "serviceAccountName", "automountServiceAccountToken"),
    *("enableServiceLinks", "terminationGracePeriodSeconds", "affinity", "tolerations"),
)


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Values as Helm merges them."""
    result = dict(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def render(images: str, stand_ins: str | None) -> list[dict[str, Any]]:
    """Objects of the development release, with these images."""
    registry, _, repository = images.rpartition("/")
    values = yaml.safe_load((CHART / "values-dev.yaml").read_text())
    change: dict[str, Any] = {
        "image": {"registry": registry, "repository": repository, "pullPolicy": "Never"},
        # A Service is an alias here, and an alias translates no port.
        "edge": {"service": {"port": 8080}},
        "dashboard": {"service": {"port": 8090}},
    }
    if stand_ins:
        change |= {store: {"image": f"{stand_ins}/{n}:dev"} for store, n in THIRD_PARTY.items()}
    with helm.Chart.load(str(CHART)) as chart:
        texts = chart.render(merged(values, change), name=RELEASE, namespace="default")
    return [
        thing
        for path, text in texts.items()
        if path.endswith(".yaml")
        for thing in yaml.safe_load_all(text)
        if thing
    ]


class Node:
    """What runs pods: podman, with this program for a kubelet.

    Args:
        objects: Of the release.
        folder: Holds volumes.
    """

    def __init__(self, objects: list[dict[str, Any]], folder: Path) -> None:
        self._folder = folder
        self._made = {(thing["kind"], thing["metadata"]["name"]): thing for thing in objects}
        self.network = f"{RELEASE}-{secrets.token_hex(3)}"
        self._started: dict[str, dict[str, Any]] = {}
        self._serving: list[str] = []
        self._turn = threading.Lock()
        podman("network", "create", self.network)

    def start(self, name: str, spec: dict[str, Any], *, wait: bool = True) -> None:
        """Start a pod, and wait for its init containers and its probes."""
        spec = json.loads(json.dumps(spec))
        probes = [
            (container["name"], container.pop(kind, None), kind)
            for container in spec["containers"]
            for kind in ("startupProbe", "livenessProbe", "readinessProbe")
        ]
        for field in UNKNOWN_TO_PODMAN:
            spec.pop(field, None)
        group = spec["securityContext"]["fsGroup"]
        spec["volumes"] = [self._volume(name, volume, group) for volume in spec["volumes"]]
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            self._adapt(container, spec)
        spec["restartPolicy"] = "Never"
        # What the pod says of its containers, podman wants of each.
        spec["securityContext"].pop("fsGroup")
        self._started[name] = json.loads(json.dumps(spec))
        for container in spec["containers"]:
            container.pop("ports", None)  # podman would open them on this machine
        for container in spec.pop("initContainers", []):
            before = f"{name}-before"
            self._play(before, spec | {"containers": [container]})
            if status := self.ends(before, container["name"], seconds=600):
                log = self.logs(before, container["name"])
                raise SystemExit(f"{name}: {container['name']} ends with {status}:\n{log}")
            podman("pod", "rm", "--force", before)
        self._play(name, spec)
        if wait:
            for container, probe, kind in probes:
                if probe:
                    self._until_it_answers(name, container, probe, kind)
            self._serving.append(name)
            print(f"  {name}", flush=True)

    def _play(self, name: str, spec: dict[str, Any]) -> None:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        manifest = self._folder / f"{name}.yaml"
        manifest.write_text(yaml.safe_dump(pod))
        with self._turn:  # podman is not sure of itself when it makes two pods at once
            podman("play", "kube", "--network", f"{self.network}:alias={name}", str(manifest))

    def ends(self, name: str, container: str, *, seconds: float) -> int:
        """Wait for a container that runs to its end, and give its status."""
        command = ("podman", "wait", f"{name}-{container}")
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
        return int(done.stdout)

    def logs(self, name: str, container: str, *, lines: int = 40) -> str:
        """The end of what a container wrote."""
        command = ("podman", "logs", "--tail", str(lines), f"{name}-{container}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def require_running(self) -> None:
        """Go on only if every pod that serves still runs.

        Raises:
            SystemExit: When one has ended; with the end of its log.
        """
        for name in self._serving:
            for container in self._started[name]["containers"]:
                if self._inspect(name, container["name"], "{{.State.Running}}") != "true":
                    raise SystemExit(f"{name} has ended:\n{self.logs(name, container['name'])}")

    def memory(self) -> dict[str, str]:
        """What each pod's program takes."""
        told = podman("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}")
        return dict(
            line.split(" ", 1) for line in told.splitlines() if line.startswith(f"{RELEASE}-")
        )

    def stop(self) -> None:
        """End all pods, and leave nothing."""
        for name in reversed(self._started):
            for verb in (("stop", "--time", "20"), ("rm", "--force")):
                subprocess.run(("podman", "pod", *verb, name), capture_output=True, check=False)
        subprocess.run(("podman", "network", "rm", self.network), capture_output=True, check=False)

    def _volume(self, pod: str, volume: dict[str, Any], group: int) -> dict[str, Any]:
        (kind,) = volume.keys() - {"name"}
        about = volume[kind] or {}
        claim = about.get("claimName") if kind == "persistentVolumeClaim" else None
        folder = self._folder / "volumes" / (claim or f"{pod}.{volume['name']}")
        folder.mkdir(parents=True, exist_ok=True)
        if kind in ("secret", "configMap"):
            source = self._made[
                kind[0].upper() + kind[1:], about.get("secretName") or about["name"]
            ]
            content = {
                key: base64.b64decode(value) if kind == "secret" else value.encode()
                for key, value in source["data"].items()
            }
            items = about.get("items") or [{"key": key, "path": key} for key in content]
            for item in items:
                path = folder / item["path"]
                path.write_bytes(content[item["key"]])
                path.chmod(about.get("defaultMode", 0o644))
                os.chown(path, 0, group)
        else:
            folder.chmod(0o2770)
        os.chown(folder, 0, group)
        return {"name": volume["name"], "hostPath": {"path": str(folder), "type": "Directory"}}

    def _adapt(self, container: dict[str, Any], spec: dict[str, Any]) -> None:
        for field in ("lifecycle", "startupProbe", "livenessProbe", "readinessProbe"):
            container.pop(field, None)
        container["resources"] = {}
        user = spec["securityContext"]
        container["securityContext"] |= {k: user[k] for k in ("runAsUser", "runAsGroup")}
        for variable in container.get("env", []):
            reference = variable.pop("valueFrom", {}).get("secretKeyRef")
            if reference:
                found = self._made["Secret", reference["name"]]["data"][reference["key"]]
                variable["value"] = base64.b64decode(found).decode()
        kept = []
        for mount in container.get("volumeMounts", []):
            sub = mount.pop("subPath", None)
            if sub is not None:  # a folder of a volume is a volume
                (volume,) = [v for v in spec["volumes"] if v["name"] == mount["name"]]
                folder = Path(volume["hostPath"]["path"]) / sub
                folder.mkdir(exist_ok=True)
                shutil.copystat(folder.parent, folder)
                os.chown(folder, 0, folder.parent.stat().st_gid)
                mount["name"] = f"{mount['name']}-{sub}"
                spec["volumes"].append(
                    {"name": mount["name"], "hostPath": {"path": str(folder), "type": "Directory"}}
                )
            kept.append(mount)
        container["volumeMounts"] = kept

    def _until_it_answers(self, pod: str, container: str, probe: dict[str, Any], kind: str) -> None:
        period = probe.get("periodSeconds", 10)
        # A kubelet would wait for readiness as long as it takes; here there is a bound.
        tries = probe.get("failureThreshold", 3) if kind == "startupProbe" else 3
        deadline = time.monotonic() + max(period * tries, 300)
        while not self._answers(pod, container, probe):
            self.require_running()
            if time.monotonic() > deadline:
                raise SystemExit(f"{pod}: {kind} fails:\n{self.logs(pod, container)}")
            time.sleep(min(period, 2))

    def _answers(self, pod: str, container: str, probe: dict[str, Any]) -> bool:
        seconds = probe.get("timeoutSeconds", 1) + 5
        if "exec" in probe:
            inside = ("podman", "exec", f"{pod}-{container}", *probe["exec"]["command"])
            return subprocess.run(inside, capture_output=True, check=False).returncode == 0
        address = self.address(pod)
        if "grpc" in probe:
            with grpc.insecure_channel(f"{address}:{probe['grpc']['port']}") as channel:
                request = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
                try:
                    answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=seconds)
                except grpc.RpcError:
                    return False
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
        kind = "httpGet" if "httpGet" in probe else "tcpSocket"
        port = self._port(pod, container, probe[kind]["port"])
        if kind == "tcpSocket":
            try:
                socket.create_connection((address, port), timeout=seconds).close()
            except OSError:
                return False
            return True
        try:
            url = f"http://{address}:{port}{probe['httpGet']['path']}"
            return bool(urllib.request.urlopen(url, timeout=seconds).status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def address(self, pod: str) -> str:
        """The address of a pod on the network."""
        infra = podman("pod", "inspect", pod, "--format", "{{.InfraContainerID}}")
        networks = json.loads(
            podman("inspect", infra.strip(), "--format", "{{json .NetworkSettings.Networks}}")
        )
        return str(networks[self.network]["IPAddress"])

    def _port(self, pod: str, container: str, name: str | int) -> int:
        for found in self._started[pod]["containers"]:
            if found["name"] == container:
                for port in found["ports"]:
                    if name in (port.get("name"), port["containerPort"]):
                        return int(port["containerPort"])
        raise SystemExit(f"{pod} has no port {name}")

    def _inspect(self, name: str, container: str, template: str) -> str:
        command = ("podman", "inspect", f"{name}-{container}", "--format", template)
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def podman(*arguments: str) -> str:
    """Run podman; what it prints.

    Raises:
        SystemExit: When it fails; with what it says.
    """
    done = subprocess.run(("podman", *arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"podman {' '.join(arguments[:2])}: {done.stderr or done.stdout}")
    return done.stdout


def short(name: str) -> str:
    """What an object is called without its release."""
    return name.removeprefix(f"{RELEASE}-")


def play(node: Node, objects: list[dict[str, Any]], *, seconds: float) -> int:
    """Bring the release up, migrate, and test it; the status of the test."""
    pods = {
        thing["metadata"]["name"]: thing["spec"]["template"]["spec"]
        for thing in objects
        if thing["kind"] in ("Deployment", "Job")
    }
    begun = time.monotonic()
    print("stores", flush=True)
    for store in STORES:
        node.start(f"{RELEASE}-{store}", pods.pop(f"{RELEASE}-{store}"))
    print("migrations", flush=True)
    (migrate,) = [name for name in pods if short(name).startswith("migrate-")]
    node.start(migrate, pods.pop(migrate) | {"restartPolicy": "Never"}, wait=False)
    if status := node.ends(migrate, "migrate", seconds=300):
        raise SystemExit(f"migrations end with {status}:\n{node.logs(migrate, 'migrate')}")
    print("programs", flush=True)
    with ThreadPoolExecutor(max_workers=4) as pool:
        for started in [pool.submit(node.start, name, spec) for name, spec in pods.items()]:
            started.result()
    print(f"everything is ready after {time.monotonic() - begun:.0f} s", flush=True)
    (test,) = [thing for thing in objects if thing["kind"] == "Pod"]
    name = test["metadata"]["name"]
    print("the test of the chart", flush=True)
    node.start(name, test["spec"], wait=False)
    try:
        status = node.ends(name, "smoke", seconds=seconds)
    finally:
        print(node.logs(name, "smoke"), flush=True)
    node.require_running()
    print("memory", *(f"  {n} {m}" for n, m in node.memory().items()), sep="\n", flush=True)
    if status:
        for program in ("worker-all", "edge", "steering-gateway"):
            container = "worker" if program == "worker-all" else program
            print(f"── {program}\n{node.logs(f'{RELEASE}-{program}', container)}", file=sys.stderr)
    return status


def main() -> int:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(description="Run the chart's development release with podman.")
    parser.add_argument(
        "--images", default="localhost/interpretops", help="registry and repository"
    )
    parser.add_argument("--stand-ins", help="registry and repository of deploy/images/stand-ins")
    parser.add_argument("--seconds", type=float, default=3600, help="patience with the test")
    parser.add_argument("--keep", action="store_true", help="leave everything running")
    chosen = parser.parse_args()
    objects = render(chosen.images, chosen.stand_ins)
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="play-kube-"))
        node = Node(objects, folder)
        if chosen.keep:
            print(f"network {node.network}, volumes in {folder}")
        else:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.callback(node.stop)
        try:
            status = play(node, objects, seconds=chosen.seconds)
        except SystemExit as error:
            print(error, flush=True)  # now, and not after all pods have ended
            status = 1
    print("the release works" if status == 0 else f"the test ended with {status}")
    return status


if __name__ == "__main__":
    sys.exit(main())
