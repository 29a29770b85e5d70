"""Every kind of work goes on where a lost machine left it, and ends as if that had not been.

Two tenants, who share nothing, ask for the same: for the one, each job's machine is lost half way;
for the other, one machine does everything. Dictionaries are in `test_recovery.py`.
"""

import os
from pathlib import Path

import pytest
from interpretops_platform.jobs.states import JobState
from interpretops_protos.plain import from_plain
from interpretops_protos.v1 import (
    circuit_search_service_pb2,
    circuit_search_service_pb2_grpc,
    eval_service_pb2,
    eval_service_pb2_grpc,
    sae_trainer_service_pb2,
    sae_trainer_service_pb2_grpc,
    steering_service_pb2,
    tracer_service_pb2,
    tracer_service_pb2_grpc,
)
from interpretops_service.intake import Intake

from .test_pipeline import DICTIONARY, EVALUATION, PROPOSAL, SEARCH, TRACE

LONG_TRACE = {**TRACE, "prompts": {**TRACE["prompts"], "limit": 200}}


class Asked:
    """One tenant's jobs, each made from those before it."""

    def __init__(self, installation, caller):
        self.installation = installation
        self.caller = caller

    async def job(self, kind, made):
        """Submit a job of a kind; `made` has the ids of what it starts from."""
        given = {name: {"id": artifact_id} for name, artifact_id in made.items()}
        with self.installation.acting(self.caller):
            return (await getattr(self, f"_{kind}")(given)).job.id

    async def _call(self, service, stub, method, message, fields):
        request = from_plain(message, {**fields, "idempotency_key": "a"})
        async with self.installation.channel(service) as make:
            return await getattr(make(stub), method)(request)

    async def _trace(self, made):
        return await self._call(
            "tracer",
            tracer_service_pb2_grpc.TracerServiceStub,
            "SubmitTrace",
            tracer_service_pb2.SubmitTraceRequest,
            LONG_TRACE,
        )

    async def _sae(self, made):
        return await self._call(
            "sae_trainer",
            sae_trainer_service_pb2_grpc.SaeTrainerServiceStub,
            "SubmitDictionary",
            sae_trainer_service_pb2.SubmitDictionaryRequest,
            {**DICTIONARY, "trace": made["trace"]},
        )

    async def _circuit(self, made):
        return await self._call(
            "circuit_search",
            circuit_search_service_pb2_grpc.CircuitSearchServiceStub,
            "SubmitSearch",
            circuit_search_service_pb2.SubmitSearchRequest,
            {**SEARCH, "dictionary": made["sae"]},
        )

    async def _policy(self, made):
        request = from_plain(
            steering_service_pb2.SubmitPolicyProposalRequest,
            {**PROPOSAL, "circuit": made["circuit"], "idempotency_key": "a"},
        )
        intake = Intake(self.installation.database, self.installation.settings)
        return await intake.accept(
            "policy", request, steering_service_pb2.SubmitPolicyProposalResponse
        )

    async def _eval(self, made):
        return await self._call(
            "evaluator",
            eval_service_pb2_grpc.EvalServiceStub,
            "SubmitEvaluation",
            eval_service_pb2.SubmitEvaluationRequest,
            {**EVALUATION, "policy": {"artifact": made["policy"]}},
        )


def machine(installation, name):
    """A machine that has the weights, and none of the work."""
    cache = installation.folder / name / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    kept = os.environ.get("INTERPRETOPS_TEST_CACHE")
    if kept:
        (cache / "models").symlink_to(Path(kept).resolve() / "models")
    return name


SAID_BY = {
    "policy": ("directions.safetensors", "fit.json", "reference.json"),
    "risk_card": ("samples.jsonl",),
}
"""Files that hold what was found; others also name what it was made from, or say how long it took."""


async def contents(installation, job):
    """What a job found, but for ids and times: its files' hashes by name, or a circuit's figures."""
    manifest = await installation.manifest(job)
    files = {file["path"]: file["sha256"] for file in manifest["files"]}
    kind = manifest["kind"]
    if kind == "circuit":
        return {k: v for k, v in manifest["summary"].items() if k != "dictionary"}
    return {name: files[name] for name in SAID_BY.get(kind, files)}


@pytest.mark.slow
@pytest.mark.real_model
async def test_each_kind_goes_on_elsewhere_and_ends_the_same(installation, with_real_model):
    often = {"checkpoint_seconds": 0.1}
    installation.change(jobs=installation.settings.jobs.model_copy(update=often))
    theirs = await installation.another_tenant()
    kinds = ("trace", "sae", "circuit", "policy", "eval")

    # One machine does everything for them.
    undisturbed = installation.worker(*kinds, machine=machine(installation, "calm"))
    whole, made = {}, {}
    for kind in kinds:
        job_id = await Asked(installation, theirs).job(kind, made)
        whole[kind] = await installation.succeeded(job_id, theirs.tenant_id)
        made[kind] = whole[kind].result_artifact_id
    assert await undisturbed.terminate() == 0

    # Ours are lost half way, all but the dictionary.
    made = {}
    for kind in kinds:
        worker = installation.worker(kind, machine=machine(installation, f"{kind}-1"))
        job_id = await Asked(installation, installation.caller).job(kind, made)
        if kind != "sae":
            await installation.until(job_id, lambda job: job.checkpoint_uri is not None)
            worker.kill()
            lost = await installation.job(job_id)
            assert lost.state == JobState.RUNNING, kind
            worker = installation.worker(kind, machine=machine(installation, f"{kind}-2"))
        job = await installation.succeeded(job_id)
        made[kind] = job.result_artifact_id
        assert await worker.terminate() == 0
        if kind == "sae":
            continue
        assert job.attempt > 1, kind
        assert await contents(installation, job) == await contents(installation, whole[kind]), kind
        assert made[kind] != whole[kind].result_artifact_id
