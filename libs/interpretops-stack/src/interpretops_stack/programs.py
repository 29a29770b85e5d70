"""The programs of the platform on one machine, in the order in which they start."""

from __future__ import annotations

import signal
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from interpretops_stack.installation import SERVICES, worker_names
from interpretops_stack.program import Program, answers_http, serves_grpc

if TYPE_CHECKING:
    from interpretops_platform.embedded import EmbeddedPostgres, EmbeddedValkey

    from interpretops_stack.folder import StackFolder
    from interpretops_stack.installation import Addresses

WHAT = {
    "tracer": "takes in traces",
    "sae_trainer": "takes in dictionaries",
    "circuit_search": "takes in circuit searches",
    "steering_gateway": "answers prompts, steered or not",
    "evaluator": "takes in evaluations",
    "reporter": "takes in reports",
}

_START_STAGES = {"steering_gateway": 1}
"""Where services start early: this one loads a model, for most of the time that all of it takes,
and asks the database for nothing before it has."""

_YIELDING = ("nice", "-n", "5")
"""Jobs take hours and leave the processor to answers that somebody waits for."""


def installed(group: str) -> list[str]:
    """Names of the entry points of a group, in order."""
    return sorted(point.name for point in entry_points(group=group))


def platform_programs(
    folder: StackFolder,
    addresses: Addresses,
    *,
    postgres: EmbeddedPostgres,
    valkey: EmbeddedValkey,
    workers: int,
) -> list[Program]:
    """Everything that `mechctl up` runs.

    Args:
        folder: The stack's folder; the settings stand in it.
        addresses: Where each program listens.
        postgres: The database, with its cluster made.
        valkey: The broker.
        workers: How many processes work on jobs, each on one at a time.
    """
    services = installed("interpretops.services")
    kinds = installed("interpretops.handlers")
    config = ("--config", str(folder.config))
    python = sys.executable

    def showing(name: str) -> dict[str, str]:
        return {"INTERPRETOPS_TELEMETRY__METRICS_PORT": str(addresses.metrics[name])}

    return [
        Program(
            "postgres",
            "keeps rows: jobs, artifacts, policies",
            postgres.command,
            stage=0,
            ready=postgres.answers,
            port=addresses.postgres,
            folder=postgres.folder,
            user=postgres.user,
            stop_signal=signal.SIGINT,
        ),
        Program(
            "valkey",
            "carries hints and limits",
            valkey.command,
            stage=0,
            ready=valkey.answers,
            port=addresses.valkey,
            folder=folder.path,
        ),
        Program(
            "prepare",
            "migrates the database, makes tenant and keys",
            (
                *(python, "-m", "interpretops_stack", "prepare", str(folder.path)),
                *("--address", addresses.edge_url, "--dashboard", addresses.dashboard_url),
            ),
            stage=1,
            once=True,
        ),
        Program(
            "keeper",
            "relays jobs, reaps lost leases",
            (python, "-m", "interpretops_platform", "keep", *config),
            stage=2,
            environment=showing("keeper"),
        ),
        *(
            Program(
                name,
                "does the jobs, one at a time",
                (*_YIELDING, python, "-m", "interpretops_service", "work", *kinds, *config),
                stage=2,
                grace_seconds=60,
                environment=showing(name),
            )
            for name in worker_names(workers)
        ),
        *(
            Program(
                name,
                WHAT[name],
                (python, "-m", "interpretops_service", "serve", name, *config),
                stage=2,
                start_stage=_START_STAGES.get(name),
                ready=serves_grpc(addresses.services[name]),
                port=addresses.services[name],
                environment=showing(name),
            )
            for name in SERVICES
            if name in services
        ),
        Program(
            "edge",
            "REST and OpenAI-compatible HTTP",
            (python, "-m", "interpretops_gateway", *config),
            stage=3,
            start_stage=2,  # its imports take a while, and it is not ready before the services are
            ready=answers_http(addresses.edge, "/readyz"),
            port=addresses.edge,
        ),
        Program(
            "dashboard",
            "pages for people",
            (python, "-m", "interpretops_dashboard", *config),
            stage=3,
            start_stage=2,
            ready=answers_http(addresses.dashboard, "/healthz"),
            port=addresses.dashboard,
        ),
    ]
