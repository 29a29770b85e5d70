"""What a test asks of a rendered release."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKLOADS = ("Deployment", "Job", "CronJob", "Pod")


@dataclass
class Pod:
    """The pod of a workload.

    Attributes:
        owner: The object that makes it.
        metadata: Its labels and annotations.
        spec: Its specification.
    """

    owner: dict
    metadata: dict
    spec: dict

    @property
    def name(self) -> str:
        """Kind and name of the object that makes it."""
        return f"{self.owner['kind']}/{self.owner['metadata']['name']}"

    @property
    def component(self) -> str:
        """What it is a copy of."""
        return self.metadata["labels"]["app.kubernetes.io/component"]

    @property
    def ours(self) -> bool:
        """Whether its program is one of ours."""
        return self.component not in ("database", "redis", "objects")

    @property
    def volumes(self) -> list[dict]:
        """Its volumes."""
        return self.spec.get("volumes", [])

    @property
    def main(self) -> dict:
        """Its container."""
        return self.spec["containers"][0]

    def containers(self) -> Iterator[dict]:
        """All containers, those before the start too."""
        yield from self.spec.get("initContainers", [])
        yield from self.spec["containers"]


@dataclass
class Release:
    """Objects of a release.

    Attributes:
        texts: What was rendered, by template.
        values: What it was rendered with.
        name: Of the release.
        objects: All objects.
    """

    texts: dict[str, str]
    values: dict[str, Any]
    name: str
    objects: list[dict] = field(init=False)

    def __post_init__(self) -> None:
        self.objects = [
            document
            for text in self.texts.values()
            for document in yaml.safe_load_all(text)
            if document
        ]

    def of(self, *kinds: str) -> list[dict]:
        """Objects of these kinds."""
        return [found for found in self.objects if found["kind"] in kinds]

    def one(self, kind: str, name: str) -> dict:
        """The object of a kind whose name ends so."""
        (found,) = [
            thing
            for thing in self.of(kind)
            if thing["metadata"]["name"] in (name, f"{self.name}-{name}")
        ]
        return found

    def pods(self) -> list[Pod]:
        """The pods of all workloads."""
        return [self._pod(workload) for workload in self.of(*WORKLOADS)]

    def pod(self, component: str) -> Pod:
        """The pod of one component."""
        (found,) = [pod for pod in self.pods() if pod.component == component]
        return found

    def _pod(self, workload: dict) -> Pod:
        if workload["kind"] == "Pod":
            return Pod(workload, workload["metadata"], workload["spec"])
        spec = workload["spec"]
        if workload["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        return Pod(workload, spec["template"]["metadata"], spec["template"]["spec"])


def selects(selector: dict, labels: dict[str, str]) -> bool:
    """Whether a label selector, as Kubernetes has it, matches labels."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In", rule
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True


def environment(container: dict) -> dict[str, str]:
    """Variables of a container that have a value of their own."""
    return {item["name"]: item["value"] for item in container.get("env", []) if "value" in item}
