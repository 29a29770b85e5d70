"""Servers that may be killed, and workers as processes of their own."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import interpretops_platform
import pytest
import pytest_asyncio
import redis
from interpretops_platform.database.engine import Database, is_transient
from interpretops_platform.database.models import Artifact, Job, JobEvent
from interpretops_platform.database.session import tenant_session
from interpretops_platform.embedded import EmbeddedPostgres, EmbeddedValkey, temporary_folder
from interpretops_platform.jobs.broker import CeleryBroker, create_celery
from interpretops_platform.jobs.keeper import keep_jobs_moving
from interpretops_platform.jobs.states import FINAL_EVENTS, JobState
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.settings import RedisSettings
from interpretops_platform.testing import add_tenant, migrated_server
from pydantic import SecretStr
from sqlalchemy import select

PATIENCE = 120.0
"""Seconds after which something that should happen is said never to happen."""


@pytest.fixture(scope="module")
def postgres():
    server = EmbeddedPostgres(temporary_folder("interpretops-faults-"), durable=False).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def postgres_server(postgres):
    return asyncio.run(migrated_server(postgres.url))


@pytest.fixture(scope="module")
def valkey():
    server = EmbeddedValkey(temporary_folder("interpretops-faults-")).start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def platform(postgres_server, valkey, tmp_path):
    name = f"faults_{secrets.token_hex(6)}"
    await asyncio.to_thread(
        postgres_server.execute, f"CREATE DATABASE {name} TEMPLATE {postgres_server.template}"
    )
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    broker = RedisSettings(url=SecretStr(valkey.url), visibility_timeout_seconds=5)
    settings = postgres_server.settings(name)
    impatient = settings.database.model_copy(update={"idle_in_transaction_seconds": 1})
    settings = settings.model_copy(update={"redis": broker, "database": impatient})
    platform = Platform(settings, tmp_path)
    await platform.open()
    yield platform
    await platform.close()
    await asyncio.to_thread(postgres_server.execute, f"DROP DATABASE {name} WITH (FORCE)")


class Program:
    """A process of the platform and its children, with the settings in its environment."""

    def __init__(self, arguments, settings, folder, log):
        source = Path(interpretops_platform.__file__).parents[1]
        variables = {
            "PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")]),
            "INTERPRETOPS_DATABASE__APP_DSN": _text(settings.app_url()),
            "INTERPRETOPS_DATABASE__SYSTEM_DSN": _text(settings.system_url()),
            "INTERPRETOPS_DATABASE__IDLE_IN_TRANSACTION_SECONDS": str(
                settings.database.idle_in_transaction_seconds
            ),
            "INTERPRETOPS_REDIS__URL": settings.redis.url.get_secret_value(),
            "INTERPRETOPS_REDIS__VISIBILITY_TIMEOUT_SECONDS": str(
                settings.redis.visibility_timeout_seconds
            ),
            "INTERPRETOPS_CACHE__DIR": str(folder / "cache"),
        }
        for key, value in settings.jobs.model_dump(exclude_none=True).items():
            variables[f"INTERPRETOPS_JOBS__{key.upper()}"] = json.dumps(value)
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                env=os.environ | variables,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def terminate(self):
        """Ask it to stop, as a deployment does."""
        self.process.terminate()

    def kill(self):
        """Kill parent and child at once, as a lost machine does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Platform:
    """A keeper, workers, and one tenant who submits jobs and looks at what became of them."""

    def __init__(self, settings, folder):
        self.settings = settings
        self.journal = folder / "journal"
        self.journal.touch()
        self.log = folder / "workers.log"
        self.database = Database(settings, name="faults")
        self.broker = CeleryBroker(create_celery(settings))
        self.workers = []
        self._stop = asyncio.Event()
        self._keepers = []
        self._others = []

    async def open(self):
        self.tenant_id = await add_tenant(self.database, "ours")
        self.start_keeper()

    def start_keeper(self):
        keeping = keep_jobs_moving(self.database, self.broker, self.settings.jobs, self._stop)
        self._keepers.append(asyncio.create_task(keeping))

    def change_jobs(self, **values):
        """Change settings of jobs for the processes that are started from now on."""
        jobs = self.settings.jobs.model_copy(update=values)
        self.settings = self.settings.model_copy(update={"jobs": jobs})

    def start_worker(self):
        """Celery's parent process and the child that runs handlers."""
        worker = Path(__file__).with_name("worker_program.py")
        self.workers.append(self._start(str(worker), str(self.journal)))
        return self.workers[-1]

    def start_keeper_process(self):
        """A keeper that can be killed and frozen."""
        self._others.append(self._start("-m", "interpretops_platform", "keep"))
        return self._others[-1]

    def _start(self, *arguments):
        return Program(arguments, self.settings, self.journal.parent, self.log)

    async def stop_own_keepers(self):
        """Leave the jobs to keepers that are processes of their own."""
        self._stop.set()
        await asyncio.gather(*self._keepers)

    async def close(self):
        for program in self.workers + self._others:
            program.kill()
        await self.stop_own_keepers()
        await self.database.close()

    async def submit(self, kind, spec, **request):
        """Submit as a client does: with one key, until there is an answer."""
        request = JobRequest(kind=kind, spec=spec, idempotency_key=secrets.token_hex(8), **request)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                async with tenant_session(self.database, self.tenant_id) as session:
                    return (await submit(session, self.tenant_id, request)).job.id
            except Exception as error:
                if not is_transient(error) or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)

    async def read(self, statement):
        async with tenant_session(self.database, self.tenant_id) as session:
            return (await session.scalars(statement)).all()

    async def job(self, job_id):
        (job,) = await self.read(select(Job).where(Job.id == job_id))
        return job

    def notes(self, job_id=None):
        lines = [json.loads(line) for line in self.journal.read_text().splitlines()]
        return [line for line in lines if job_id in (None, line["job"])]

    async def until(self, condition, what):
        """Wait for something that must happen, however long this machine takes."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.05)
        tail = self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""
        raise AssertionError(f"never happened: {what}\n{tail}")

    async def until_noted(self, job_id, what, attempt=1):
        wanted = {"job": job_id, "attempt": attempt, "what": what}
        await self.until(lambda: wanted in self.notes(job_id), f"{what} of {job_id}")

    async def until_over(self, job_ids):
        async def over():
            try:
                jobs = await self.read(select(Job).where(Job.id.in_(job_ids)))
            except Exception as error:
                if not is_transient(error):
                    raise
                return False
            return len(jobs) == len(job_ids) and all(JobState(job.state).final for job in jobs)

        await self.until(over, f"the end of {len(job_ids)} jobs")

    async def check_history(self, job_ids, expected=JobState.SUCCEEDED):
        """Everything accepted ended exactly once, with exactly one result where it succeeded."""
        jobs = {job.id: job for job in await self.read(select(Job))}
        assert set(jobs) == set(job_ids), "a job was lost or made twice"
        artifacts = Counter(
            name.rpartition("_")[0].removeprefix("tr_")
            for name in await self.read(select(Artifact.id))
        )
        events = await self.read(select(JobEvent).order_by(JobEvent.id))
        for job_id, job in jobs.items():
            types = [event.type for event in events if event.job_id == job_id]
            assert job.state == expected, (job.state, job.error, types)
            assert [t for t in types if t in FINAL_EVENTS.values()] == [
                FINAL_EVENTS[JobState(job.state)]
            ]
            assert types[-1] in FINAL_EVENTS.values(), "something followed the end"
            assert types.count("started") == job.attempt
            succeeded = job.state == JobState.SUCCEEDED
            assert artifacts[job_id] == succeeded, "results accepted"
            expected_artifact = f"tr_{job_id}_{job.attempt}" if succeeded else None
            assert job.result_artifact_id == expected_artifact


def child_of(job):
    """The process that holds the lease of a job."""
    return int(job.lease_owner.split(":")[1])


def _text(url):
    return url.render_as_string(hide_password=False)
