"""A worker with handlers that misbehave on request; the fault tests start it as a process."""

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from interpretops_platform.database.models import Artifact
from interpretops_platform.errors import PlatformError
from interpretops_platform.jobs.worker import JobContext, JobResult, work
from interpretops_platform.settings import load_settings

JOURNAL = Path(sys.argv[1])


def note(context: JobContext, what: str) -> None:
    """Append a line to the journal, which outlives this process."""
    line = json.dumps({"job": context.job_id, "attempt": context.attempt, "what": what})
    with JOURNAL.open("a") as journal:
        journal.write(line + "\n")


def result(context: JobContext) -> JobResult:
    """A result that names the attempt it came from."""
    artifact = Artifact(
        tenant_id=context.tenant_id,
        id=f"tr_{context.job_id}_{context.attempt}",
        kind="trace",
        schema_version=1,
        sha256="0" * 64,
        spec_hash="0" * 64,
        manifest={},
        object_uri="",
        size=0,
    )

    async def accept(session):
        session.add(artifact)

    return JobResult(artifact.id, accept)


def steps(context: JobContext) -> JobResult:
    """Count from the last checkpoint to `steps`, saying so."""
    note(context, "started")
    done = int(context.checkpoint_uri.rpartition("/")[2]) if context.checkpoint_uri else 0
    total = context.spec["steps"]
    for step in range(done, total):
        time.sleep(context.spec["seconds"])
        if context.spec.get("checkpoint"):
            context.save_checkpoint(f"memory://{step + 1}")
        note(context, f"step {step}")
        context.update("counting", step + 1, total)
    return result(context)


def stall(context: JobContext) -> JobResult:
    """Finish when the file of this attempt appears, reporting nothing until then."""
    note(context, "started")
    while not Path(f"{context.spec['gate']}-{context.attempt}").exists():
        time.sleep(0.02)
    note(context, "through the gate")
    return result(context)


def poison(context: JobContext) -> JobResult:
    """Kill the process that runs it."""
    note(context, "started")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def flaky(context: JobContext) -> JobResult:
    """Fail as often as asked."""
    note(context, "started")
    if context.attempt <= context.spec["failures"]:
        raise RuntimeError("with a password in its text")
    return result(context)


def mistake(context: JobContext) -> JobResult:
    """Be wrong in a way that the caller has to cure."""
    note(context, "started")
    raise PlatformError("the model is unknown", fix="name another one")


def dangling(context: JobContext) -> JobResult:
    """Name a result that does not exist."""
    note(context, "started")
    return JobResult("tr_missing")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(process)d %(levelname)s %(message)s")
    handlers = {
        "steps": steps,
        "stall": stall,
        "poison": poison,
        "flaky": flaky,
        "mistake": mistake,
        "dangling": dangling,
    }
    work(load_settings(), handlers)
