"""A job outlives the machines it runs on, and stops when it is told to."""

from interpretops_platform.artifacts import find
from interpretops_platform.database.models import Artifact, JobEvent
from interpretops_platform.database.session import tenant_session
from interpretops_platform.jobs.states import JobState
from interpretops_protos.plain import from_plain
from interpretops_protos.v1 import job_pb2, job_service_pb2_grpc, sae_trainer_service_pb2_grpc
from interpretops_protos.v1.sae_trainer_service_pb2 import SubmitDictionaryRequest
from sqlalchemy import func, select

TRAINING = "training dictionaries"


def wanted(model, **spec):
    prompts = [{"id": f"p{i}", "text": f"Prompt {i}: {'word ' * (i % 7)}"} for i in range(60)]
    return from_plain(
        SubmitDictionaryRequest,
        {
            "model": {"name": model, "dtype": "float32"},
            "prompts": {"inline": {"prompts": prompts, "source": "tests"}},
            "spec": {
                "sites": ["resid_post.1"],
                "d_sae": 64,
                "k": 4,
                "tokens": 300_000,
                "batch": 256,
                "checkpoint_steps": 20,
                "evaluation_tokens": 64,
                "card_tokens": 0,
                **spec,
            },
            "idempotency_key": "one",
        },
    )


def at_step(step):
    """Whether a job was saved and trains beyond a step."""

    def holds(job):
        progress = job.progress or {"stage": ""}
        return (
            job.checkpoint_uri is not None
            and progress["stage"] == TRAINING
            and progress["done"] > step
        )

    return holds


async def first_step_of(installation, job_id, attempt):
    """How far the training was when this attempt first said so."""
    async with tenant_session(installation.database, installation.tenant_id) as session:
        events = list(
            await session.scalars(
                select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.id)
            )
        )
    began = next(
        i
        for i, event in enumerate(events)
        if event.type == "started" and event.body["attempt"] == attempt
    )
    return next(
        event.body["done"]
        for event in events[began:]
        if event.type == "progress" and event.body["stage"] == TRAINING
    )


async def payload_of(installation, job):
    async with tenant_session(installation.database, job.tenant_id) as session:
        return (await find(session, job.result_artifact_id)).sha256


async def test_killed_and_handed_back_it_ends_with_the_same_bytes(installation, tiny_model):
    often = {"checkpoint_seconds": 0.1, "drain_seconds": 0.01}
    installation.change(jobs=installation.settings.jobs.model_copy(update=often))
    theirs = await installation.another_tenant()
    async with installation.channel("sae_trainer") as stub:
        trainer = stub(sae_trainer_service_pb2_grpc.SaeTrainerServiceStub)
        with installation.acting():
            job_id = (await trainer.SubmitDictionary(wanted(tiny_model))).job.id

        first = installation.worker("sae", machine="one")
        await installation.until(job_id, at_step(150))
        first.kill()

        second = installation.worker("sae", machine="two")
        await installation.until(job_id, lambda job: job.attempt == 2 and at_step(300)(job))
        assert await first_step_of(installation, job_id, 2) >= 20
        assert await second.terminate() == 0
        handed_back = await installation.job(job_id)
        assert (handed_back.state, handed_back.handed_back) == (JobState.QUEUED, 1)

        installation.worker("sae", machine="three")
        interrupted = await installation.succeeded(job_id)
        assert interrupted.attempt == 3
        assert await first_step_of(installation, job_id, 3) >= 300

        # Another tenant has nothing of it, so that the same work is done in one go.
        with installation.acting(theirs):
            other_id = (await trainer.SubmitDictionary(wanted(tiny_model))).job.id
            whole = await installation.succeeded(other_id, theirs.tenant_id)
        assert whole.attempt == 1
        assert await payload_of(installation, interrupted) == await payload_of(installation, whole)
        assert interrupted.result_artifact_id != whole.result_artifact_id

        # The same work under another key gives what is there.
        with installation.acting():
            again = wanted(tiny_model)
            again.idempotency_key = "two"
            repeated = await installation.succeeded((await trainer.SubmitDictionary(again)).job.id)
        assert repeated.result_artifact_id == interrupted.result_artifact_id

        # What is asked to stop does so at a step, and makes nothing.
        with installation.acting():
            long = wanted(tiny_model, tokens=2**40)
            long.idempotency_key = "three"
            long_id = (await trainer.SubmitDictionary(long)).job.id
            await installation.until(long_id, at_step(10))
            service = stub(job_service_pb2_grpc.JobServiceStub)
            watching = service.WatchJob(job_pb2.WatchJobRequest(job_id=long_id))
            await service.CancelJob(job_pb2.CancelJobRequest(job_id=long_id))
            async for answer in watching:
                last = answer.event
        assert last.state_change.to == job_pb2.JOB_STATE_CANCELLED
        async with tenant_session(installation.database, installation.tenant_id) as session:
            made = await session.scalar(select(func.count()).select_from(Artifact))
        assert made == 1

        # What only the engine can tell is said with the field at fault, and not tried again.
        with installation.acting():
            wrong = wanted(tiny_model, sites=["resid_post.x"])
            wrong.idempotency_key = "four"
            wrong_id = (await trainer.SubmitDictionary(wrong)).job.id
        failed = await installation.until(wrong_id, lambda job: job.state == JobState.FAILED)
    assert (failed.attempt, failed.error["retryable"]) == (1, False)
    assert failed.error["field"] == "spec.sites"
    assert "resid_post.x" in failed.error["problem"]
