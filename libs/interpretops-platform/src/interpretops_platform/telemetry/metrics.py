"""Metrics for Prometheus: names with units, and labels whose values are known beforehand.

A label with free values (a tenant, a path, an error text) makes a series each, until the scraper and
this process run out of memory; so every value is declared, and one that was not counts as `other`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, Literal, Self, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    make_asgi_app,
    start_http_server,
)

if TYPE_CHECKING:
    from collections.abc import Callable


_NAMESPACE = "interpretops"
_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+", re.ASCII)
_LABEL = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_COUNTER_UNITS = ("_total",)
_UNITS = (
    "_seconds",
    "_bytes",
    "_tokens",
    "_ratio",
    "_count",
    "_celsius",
    "_timestamp_seconds",
    "_level",
)
_MAX_SERIES = 1000
OTHER = "other"

LATENCY_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Bounds for calls and requests: from a local look-up to the longest wait."""
JOB_SECONDS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0)
"""Bounds for work in the background."""

Labels = Mapping[str, Collection[str]]
Worst = Literal["highest", "lowest"]
MetricT = TypeVar("MetricT", Counter, Gauge, Histogram)


class Family(Generic[MetricT]):
    """The series of one metric, one for each combination of declared label values."""

    def __init__(self, metric: MetricT, labels: Labels) -> None:
        self._metric: MetricT = metric
        self._values = {name: frozenset(values) for name, values in labels.items()}

    @property
    def bare(self) -> MetricT:
        """The metric itself, for what keeps its labels' values bounded by other means."""
        return self._metric

    def labels(self, **values: str) -> MetricT:
        """The series of these values; one that was not declared counts as `other`.

        Raises:
            ValueError: When the names are not those that were declared.
        """
        if values.keys() != self._values.keys():
            raise ValueError(f"labels are {sorted(self._values)}, not {sorted(values)}")
        if not values:
            return self._metric
        known = {
            name: value if value in self._values[name] else OTHER for name, value in values.items()
        }
        return self._metric.labels(**known)


class Ranked:
    """A gauge whose label has free values, such as names of policies: the worst of them are shown.

    All series are replaced together, so that what is gone is not shown, and there are never more than
    the most that was declared.
    """

    def __init__(self, metric: Gauge, label: str, worst: Worst, most: int) -> None:
        self._metric, self._label, self._worst, self._most = metric, label, worst, most

    def show(self, values: Mapping[str, float]) -> None:
        """Show these values, by the label's value, in place of those before."""
        sign = -1 if self._worst == "highest" else 1
        kept = sorted(values, key=lambda name: (sign * values[name], name))[: self._most]
        self._metric.clear()
        for name in kept:
            self._metric.labels(**{self._label: name}).set(values[name])


class Metrics:
    """Declares metrics of one process and shows them.

    Args:
        registry: Where they are kept; by default one of their own, so that two services in one
            process, or two tests, do not meet.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry

    @classmethod
    def of_process(cls) -> Self:
        """Those of a program, which also show its memory, processor time and open files."""
        made = cls()
        ProcessCollector(registry=made.registry)
        return made

    def counter(
        self, name: str, documentation: str, labels: Labels | None = None
    ) -> Family[Counter]:
        """Something that only grows, such as `jobs_finished_total`.

        Args:
            name: Without the namespace; it ends in `_total`.
            documentation: One sentence.
            labels: From label names to all values each may have.

        Raises:
            ValueError: When the name has no unit, a label is malformed, or the combinations are
                more than 1000.
        """
        return self._family(name, labels, _COUNTER_UNITS, lambda full, names: Counter(
            full, documentation, names, registry=self.registry
        ))  # fmt: skip

    def gauge(self, name: str, documentation: str, labels: Labels | None = None) -> Family[Gauge]:
        """Something that goes up and down, such as `queued_jobs_count`.

        Args:
            name: Without the namespace; it ends in its unit, or in `_count`.
            documentation: One sentence.
            labels: From label names to all values each may have.

        Raises:
            ValueError: As for `counter`.
        """
        return self._family(name, labels, _UNITS, lambda full, names: Gauge(
            full, documentation, names, registry=self.registry
        ))  # fmt: skip

    def ranked(
        self, name: str, documentation: str, label: str, *, worst: Worst, most: int = 50
    ) -> Ranked:
        """A gauge by a label with free values, such as the name of a policy; the worst are shown.

        Args:
            name: Without the namespace; it ends in its unit, or in `_count`.
            documentation: One sentence.
            label: The label. Its values must not tell who a tenant is.
            worst: Which values are the worst.
            most: How many are shown.

        Raises:
            ValueError: When the name has no unit, or the label is malformed.
        """
        # One declared value, so that name and label are checked as others are.
        family = self.gauge(name, documentation, {label: (OTHER,)})
        return Ranked(family.bare, label, worst, most)

    def histogram(
        self,
        name: str,
        documentation: str,
        labels: Labels | None = None,
        *,
        buckets: Sequence[float] = LATENCY_SECONDS,
    ) -> Family[Histogram]:
        """A distribution, such as `rpc_server_duration_seconds`.

        Args:
            name: Without the namespace; it ends in its unit.
            documentation: One sentence.
            labels: From label names to all values each may have.
            buckets: Upper bounds, ascending, in the unit of the name.

        Raises:
            ValueError: As for `counter`, or when the bounds do not ascend.
        """
        if list(buckets) != sorted(set(buckets)):
            raise ValueError(f"{name}: bounds of buckets must ascend")
        return self._family(name, labels, _UNITS, lambda full, names: Histogram(
            full, documentation, names, registry=self.registry, buckets=buckets
        ))  # fmt: skip

    def _family(
        self,
        name: str,
        labels: Labels | None,
        units: tuple[str, ...],
        make: Callable[[str, Sequence[str]], MetricT],
    ) -> Family[MetricT]:
        declared = {} if labels is None else dict(labels)
        if not _NAME.fullmatch(name) or not name.endswith(units):
            raise ValueError(f"{name!r} must be snake_case and end in {', '.join(units)}")
        for label, values in declared.items():
            if not _LABEL.fullmatch(label) or not values or isinstance(values, str):
                raise ValueError(f"{name}: label {label!r} needs a list of values")
        series = math.prod(len(frozenset(values) | {OTHER}) for values in declared.values())
        if series > _MAX_SERIES:
            raise ValueError(f"{name}: {series} combinations of labels are more than {_MAX_SERIES}")
        return Family(make(f"{_NAMESPACE}_{name}", tuple(declared)), declared)

    def asgi_app(self) -> Callable[..., object]:
        """An ASGI application that shows the metrics, to be mounted at `/metrics`."""
        return make_asgi_app(self.registry)

    def expose(self, host: str, port: int) -> Exposition:
        """Show the metrics by HTTP from a thread of its own, for services that speak no HTTP.

        Args:
            host: Address to listen on.
            port: Port; 0 takes any free one.

        Raises:
            OSError: When the port is taken.
        """
        server, thread = start_http_server(port, host, self.registry)

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return Exposition(int(server.server_port), close)


class Exposition:
    """An open port with metrics.

    Attributes:
        port: The port that was taken.
    """

    def __init__(self, port: int, close: Callable[[], None]) -> None:
        self.port = port
        self.close = close
        """Closes the port and ends the thread."""
