"""From a submitted request to a trace that the platform keeps."""

import pytest
from interpretops.testing import save_tiny
from interpretops_platform.database.models import Artifact
from interpretops_platform.database.session import tenant_session
from interpretops_platform.security.uris import UriSettings
from interpretops_platform.settings import SecuritySettings
from interpretops_protos.plain import from_plain
from interpretops_protos.v1 import job_pb2, job_service_pb2_grpc, tracer_service_pb2_grpc
from interpretops_protos.v1.tracer_service_pb2 import SubmitTraceRequest
from sqlalchemy import select


def wanted(model, **changes):
    return from_plain(
        SubmitTraceRequest,
        {
            "model": {"name": model.as_uri(), "dtype": "float32"},
            "prompts": {
                "inline": {
                    "prompts": [{"id": f"p{i}", "text": f"Prompt {i}"} for i in range(5)],
                }
            },
            "spec": {"sites": ["resid_post.1"]},
            "idempotency_key": "one",
            **changes,
        },
    )


@pytest.fixture
def model(installation):
    folder = save_tiny(installation.folder / "models" / "tiny")
    uris = UriSettings(folders=(folder.parent,))
    installation.settings = installation.settings.model_copy(
        update={"security": SecuritySettings(uris=uris)}
    )
    return folder


async def test_a_trace_is_made(installation, model):
    installation.worker("trace")
    async with installation.channel("tracer") as stub:
        tracer = stub(tracer_service_pb2_grpc.TracerServiceStub)
        jobs = stub(job_service_pb2_grpc.JobServiceStub)
        with installation.acting():
            submitted = await tracer.SubmitTrace(wanted(model))
            watching = jobs.WatchJob(job_pb2.WatchJobRequest(job_id=submitted.job.id))
            events = [answer.event async for answer in watching]
            job = (await jobs.GetJob(job_pb2.GetJobRequest(job_id=submitted.job.id))).job
    changes = [event.state_change.to for event in events if event.HasField("state_change")]
    assert changes == [
        job_pb2.JOB_STATE_QUEUED,
        job_pb2.JOB_STATE_RUNNING,
        job_pb2.JOB_STATE_SUCCEEDED,
    ], job
    assert job.result.id.startswith("tr_")
    assert job.created_by == "key:tests"
    async with tenant_session(installation.database, installation.tenant_id) as session:
        artifact = await session.scalar(select(Artifact).where(Artifact.id == job.result.id))
    assert artifact.manifest["summary"]["prompts"] == 5
