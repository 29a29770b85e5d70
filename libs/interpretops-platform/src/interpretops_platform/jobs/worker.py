"""The worker: one Celery task that claims a job, runs its handler and settles what came out.

A handler is ordinary blocking code in the main thread of a process of its own. A second thread runs
an event loop that keeps the lease alive and publishes progress, so that a handler never waits for
the database. Nothing here decides who is right: every write is fenced by the lease.
"""

from __future__ import annotations

import asyncio
import logging
import math
import multiprocessing
import os
import shutil
import socket
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from celery import signals

from interpretops_platform.database.engine import Database, is_transient
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import PlatformError, SettingsError
from interpretops_platform.jobs import lease as leases
from interpretops_platform.jobs.broker import TASK, create_celery
from interpretops_platform.jobs.lease import ClaimedJob, Lease, LeaseLostError
from interpretops_platform.jobs.pod import PodMarks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping
    from pathlib import Path
    from uuid import UUID

    from celery import Celery
    from sqlalchemy.ext.asyncio import AsyncSession

    from interpretops_platform.database.models import JSON
    from interpretops_platform.settings import Settings

_LOG = logging.getLogger(__name__)
_LONGEST_PAUSE = 5.0
_T = TypeVar("_T")


class JobCancelledError(PlatformError):
    """Somebody asked for the job to stop."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"{job_id} was cancelled", fix="submit it again if it is wanted after all")


class HandBackError(PlatformError):
    """The worker shuts down; another one goes on from the last checkpoint."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"{job_id} is handed back", fix="wait until another worker takes it")


@dataclass(frozen=True)
class _Stage:
    """When a stage was first heard of, and how far it was then."""

    name: str
    done: int
    total: int
    began: float

    def seconds_left(self, done: int, total: int) -> float | None:
        """Time until it ends at its pace so far; none while that is unknown."""
        if not self.done < done <= total:
            return None
        pace = (time.monotonic() - self.began) / (done - self.done)
        return round(pace * (total - done), 1)


@dataclass(frozen=True)
class JobResult:
    """What a handler made.

    Attributes:
        artifact_id: The result, if the job makes one.
        accept: Writes the rows of the result. It runs in the transaction that ends the job, so the
            rows exist if and only if this attempt is the one that counts.
    """

    artifact_id: str | None = None
    accept: Callable[[AsyncSession], Awaitable[None]] | None = None


class JobContext:
    """What a handler knows and may do.

    It is also the monitor that the work reports to: `update` at every step boundary.

    Attributes:
        tenant_id: Whose job it is.
        job_id: The job.
        kind: Its kind.
        attempt: Counts from 1; also the fencing token.
        spec: What was asked for.
        inputs: References to the artifacts to start from.
        trace_context: W3C trace headers of whoever submitted it.
        checkpoint_uri: What an earlier attempt saved, if any did.
        folder: Scratch space of this attempt alone, made by the handler if it needs it and deleted
            when the attempt ends; a checkpoint lies elsewhere.
        progress: What was reported last.
    """

    def __init__(self, worker: Worker, claimed: ClaimedJob) -> None:
        self._worker = worker
        self._lease = claimed.lease
        self._cancelled = threading.Event()
        self._lost = threading.Event()
        self._stage = _Stage("", 0, 0, 0.0)
        self.progress: JSON | None = None
        self.tenant_id: UUID = claimed.lease.tenant_id
        self.job_id = claimed.lease.job_id
        self.kind = claimed.kind
        self.attempt = claimed.lease.token
        self.spec = claimed.spec
        self.inputs = claimed.inputs
        self.trace_context = claimed.trace_context
        self.checkpoint_uri = claimed.checkpoint_uri
        self.folder: Path = worker.scratch / self.job_id / str(self.attempt)

    def update(self, stage: str, done: int, total: int, **figures: float) -> None:
        """Report that `done` of `total` steps of `stage` are finished, and learn whether to go on.

        Raises:
            JobCancelledError: When somebody asked for the job to stop.
            HandBackError: When the worker shuts down and its patience is over.
            LeaseLostError: When another attempt took over.
        """
        same = (stage, total) == (self._stage.name, self._stage.total)
        if not same or (self.progress is not None and done < self.progress["done"]):
            self._stage = _Stage(stage, done, total, time.monotonic())
        self.progress = {
            "stage": _storable(stage),
            "done": done,
            "total": total,
            "seconds_left": self._stage.seconds_left(done, total),
            # A loss that diverged is no number in JSON; the rest of the report still is.
            "figures": {name: float(x) for name, x in figures.items() if math.isfinite(x)},
        }
        self.check()

    def check(self) -> None:
        """Learn whether to go on, without reporting anything.

        Raises:
            JobCancelledError: When somebody asked for the job to stop.
            HandBackError: When the worker shuts down and its patience is over.
            LeaseLostError: When another attempt took over.
        """
        if self._lost.is_set():
            raise LeaseLostError(self._lease)
        if self._cancelled.is_set():
            raise JobCancelledError(self.job_id)
        if self._worker.drained():
            raise HandBackError(self.job_id)

    def in_session(self, work: Callable[[AsyncSession], Awaitable[_T]]) -> _T:
        """Run something in a transaction of the tenant, and wait for it.

        It is run again where the database went away, so it must bear being done twice. What must be
        done once goes into `JobResult.accept`.

        Args:
            work: Given a `tenant_session`.
        """
        return self._worker.in_session(self.tenant_id, work)

    def save_checkpoint(self, uri: str) -> None:
        """Say where the next attempt would go on; it is written when this returns.

        Raises:
            LeaseLostError: When another attempt took over.
        """
        self.in_session(lambda session: leases.save_checkpoint(session, self._lease, uri))
        self.checkpoint_uri = uri

    async def keep_alive(self) -> None:
        """Renew the lease and publish progress until the job is lost or this task is cancelled."""
        settings = self._worker.settings.jobs
        published: JSON | None = None
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(min(settings.progress_seconds, settings.heartbeat_seconds))
            latest = self.progress
            news = None if latest == published else latest
            if news is None and time.monotonic() - renewed < settings.heartbeat_seconds:
                continue
            try:
                async with tenant_session(self._worker.database, self.tenant_id) as session:
                    cancel = await leases.heartbeat(
                        session, self._lease, lease_seconds=settings.lease_seconds, progress=news
                    )
            except LeaseLostError as error:
                _LOG.warning("%s", error.problem)
                self._lost.set()
                return
            except Exception as error:
                # While the database is away nobody else can take the job either.
                _LOG.warning("no heartbeat for %s", self.job_id, exc_info=not is_transient(error))
                continue
            published, renewed = latest, time.monotonic()
            if cancel:
                self._cancelled.set()


class Worker:
    """Runs jobs of the kinds it has handlers for.

    Args:
        settings: Where database and broker are, and how leases run.
        handlers: Handler by kind.
    """

    def __init__(
        self, settings: Settings, handlers: Mapping[str, Callable[[JobContext], JobResult]]
    ) -> None:
        self.settings = settings
        self.scratch = settings.cache.dir / "jobs"
        self._handlers = dict(handlers)
        self._marks = PodMarks.of_this_pod() if settings.jobs.mark_pod else None
        # Made before the fork, so that the parent can tell its child.
        self._drain_at = multiprocessing.Value("d", float("inf"), lock=False)

    # The following exist once per process and are made after the fork.

    @cached_property
    def database(self) -> Database:
        """Pools of the process that runs jobs."""
        return Database(self.settings, name=f"worker-{os.getpid()}")

    @cached_property
    def owner(self) -> str:
        """A name no other process has, not even one with the same number after a restart."""
        return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, name="lease", daemon=True).start()
        return loop

    def drain(self) -> None:
        """Let the running job go on for a while, then have it handed back at a step boundary."""
        self._drain_at.value = time.monotonic() + self.settings.jobs.drain_seconds

    def drained(self) -> bool:
        """Whether a job that runs should be handed back now."""
        return time.monotonic() >= float(self._drain_at.value)

    def run(self, job_id: str) -> None:
        """Claim a job and bring it as far as it goes; nothing happens where it cannot be claimed.

        Args:
            job_id: From a hint.
        """
        claimed = self._persist(
            lambda: leases.claim(
                self.database,
                job_id,
                kinds=self._handlers.keys(),
                owner=self.owner,
                lease_seconds=self.settings.jobs.lease_seconds,
            )
        )
        if claimed is None:
            return
        context = JobContext(self, claimed)
        if self._marks is not None:
            self._marks.busy()
        keeping = asyncio.run_coroutine_threadsafe(context.keep_alive(), self._loop)
        try:
            settle = self._attempt(context, claimed)
            keeping.cancel()
            self._settle(claimed.lease, settle)
        except LeaseLostError as error:
            _LOG.warning("%s", error.problem)
        finally:
            keeping.cancel()
            shutil.rmtree(context.folder, ignore_errors=True)
            if self._marks is not None:
                self._marks.idle()

    def _attempt(
        self, context: JobContext, claimed: ClaimedJob
    ) -> Callable[[AsyncSession], Awaitable[object]]:
        """Run the handler, and say how its end is to be written down."""
        lease = claimed.lease
        try:
            result = self._handlers[claimed.kind](context)
        except LeaseLostError:
            raise
        except JobCancelledError:
            return lambda session: leases.stop_cancelled(session, lease)
        except HandBackError:
            return lambda session: leases.hand_back(session, lease)
        except Exception as error:
            _LOG.exception("attempt %d of %s failed", lease.token, lease.job_id)
            return self._failure(lease, error)

        async def accept(session: AsyncSession) -> None:
            # First the fence, which also locks the job: nobody else can accept a result now.
            accepted = await leases.finish(
                session, lease, result_artifact_id=result.artifact_id, progress=context.progress
            )
            if accepted and result.accept is not None:
                await result.accept(session)

        return accept

    def _settle(self, lease: Lease, settle: Callable[[AsyncSession], Awaitable[object]]) -> None:
        try:
            self.in_session(lease.tenant_id, settle)
        except LeaseLostError:
            raise
        except Exception as error:
            # The result itself was refused, by a constraint for example.
            _LOG.exception("the result of attempt %d of %s", lease.token, lease.job_id)
            self.in_session(lease.tenant_id, self._failure(lease, error))

    def _failure(
        self, lease: Lease, error: Exception
    ) -> Callable[[AsyncSession], Awaitable[object]]:
        # An error that says how to cure it is the caller's to cure: the next attempt would fail too.
        problem, fix = getattr(error, "problem", None), getattr(error, "fix", None)
        curable = isinstance(problem, str) and isinstance(fix, str)
        body: JSON = {
            "type": type(error).__name__,
            # Of other errors only the name: their text may hold what the tenant must not see.
            "problem": problem if curable else f"the work failed with {type(error).__name__}",
            "fix": fix if curable else "look at the log of the worker",
        }
        if curable and isinstance(field := getattr(error, "field", None), str):
            body["field"] = field
        body = {name: _storable(text) for name, text in body.items()}
        retry = not curable or getattr(error, "transient", False)
        body["retryable"] = retry
        delay = self.settings.jobs.retry_seconds
        return lambda session: leases.fail(session, lease, body, retry=retry, retry_seconds=delay)

    def in_session(self, tenant_id: UUID, work: Callable[[AsyncSession], Awaitable[_T]]) -> _T:
        """Run something in a transaction of a tenant, waiting for the database if need be.

        Args:
            tenant_id: The tenant.
            work: Given a `tenant_session`; it bears being run again after a lost answer.
        """

        async def transaction() -> _T:
            async with tenant_session(self.database, tenant_id) as session:
                return await work(session)

        return self._persist(transaction)

    def _persist(self, action: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run something on the loop, again and again while the database cannot be reached.

        Every action may be repeated after a commit whose answer was lost: the fence sees to it.
        """
        pause = 0.1
        while True:
            try:
                return asyncio.run_coroutine_threadsafe(action(), self._loop).result()
            except Exception as error:
                if not is_transient(error) or self.drained():
                    raise
                _LOG.warning("waiting for the database: %s", str(error).partition("\n")[0])
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _storable(text: object) -> str:
    """The text without what PostgreSQL cannot store."""
    return str(text).replace("\0", "").encode(errors="replace").decode()


def create_worker_app(worker: Worker) -> Celery:
    """The Celery application of a worker, with its one task."""
    app = create_celery(worker.settings)

    @app.task(name=TASK)  # type: ignore[untyped-decorator]
    def run_job(job_id: str) -> None:
        worker.run(str(job_id))

    def drain(**_: object) -> None:
        worker.drain()

    signals.worker_shutting_down.connect(drain, weak=False)
    return app


def work(settings: Settings, handlers: Mapping[str, Callable[[JobContext], JobResult]]) -> None:
    """Be a worker until SIGTERM, which lets a running job finish or hands it back.

    Args:
        settings: Where database and broker are, and how leases run.
        handlers: Handler by kind; each kind is also the name of its queue.

    Raises:
        SettingsError: When there is nothing to work on.
    """
    if not handlers:
        raise SettingsError("this worker has no handlers", fix="give it at least one kind")
    app = create_worker_app(Worker(settings, handlers))
    app.worker_main(
        [
            "--quiet",
            "worker",
            f"--queues={','.join(sorted(handlers))}",
            f"--hostname={'-'.join(sorted(handlers))}-{uuid4().hex[:8]}@%h",
            *("--loglevel=INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
    )
