"""Long work: traces, dictionaries, circuits, Risk Cards and reports are submitted here."""

import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import grpc
from fastapi import Depends, Header, Response
from fastapi.responses import JSONResponse
from interpretops_platform.artifacts import newest_made_from
from interpretops_platform.database.models import Job
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.jobs.states import JobState
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.rpc.problems import FieldProblem, Problem
from interpretops_platform.security.principal import Scope
from interpretops_protos.v1 import (
    circuit_pb2,
    circuit_search_service_pb2,
    eval_service_pb2,
    evaluation_pb2,
    job_pb2,
    policy_pb2,
    report_pb2,
    report_service_pb2,
    sae_trainer_service_pb2,
    steering_service_pb2,
    tracer_service_pb2,
)
from pydantic import BaseModel, Field

from interpretops_gateway.bodies import (
    MODEL_FIELDS,
    PROMPT_FIELDS,
    AnalyzeBody,
    DictionaryBody,
    EvalBody,
    ProposalBody,
    ReportBody,
    TraceBody,
    policy_artifact,
    reference,
    with_ids,
)
from interpretops_gateway.documents import JobDocument
from interpretops_gateway.edge import Edge, EdgeDep
from interpretops_gateway.problems import ProblemError, invalid
from interpretops_gateway.routes.artifacts import (
    CARD_FILE,
    read_json,
    read_text,
    without_samples,
)
from interpretops_gateway.routes.circuits import CIRCUIT_FILE, ccs_summary
from interpretops_gateway.routes.jobs import wait_until_final
from interpretops_gateway.routing import needs, router
from interpretops_gateway.services import Renames, body_path

routes = router()

POLICY_FILE = "policy.yaml"
_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;])', re.IGNORECASE)
_RETRY_SECONDS = 2
_FAILURES = {
    JobState.FAILED: grpc.StatusCode.INVALID_ARGUMENT,
    JobState.CANCELLED: grpc.StatusCode.ABORTED,
    JobState.DEAD_LETTERED: grpc.StatusCode.UNAVAILABLE,
}


class Submission(Protocol):
    """Any `Submit...Response`."""

    @property
    def job(self) -> job_pb2.Job:
        """The job."""
        ...

    @property
    def replayed(self) -> bool:
        """Whether an earlier submission had made it."""
        ...


@dataclass(frozen=True)
class Wishes:
    """What the headers of a submission ask for.

    Attributes:
        key: Under which the job is submitted.
        wait: Seconds to wait for its end.
    """

    key: str
    wait: int


async def _wishes(
    idempotency_key: Annotated[
        str | None,
        Header(
            pattern="^[!-~]{1,255}$",
            description="Submissions under one key are one job, so that a request whose answer "
            "was lost can be repeated.",
        ),
    ] = None,
    prefer: Annotated[
        str | None,
        Header(description="`wait=60` answers in full if the job ends within a minute."),
    ] = None,
) -> Wishes:
    found = _WAIT.search(prefer or "")
    key = uuid.uuid4().hex if idempotency_key is None else idempotency_key
    return Wishes(key, int(found[1]) if found else 0)


WishesDep = Annotated[Wishes, Depends(_wishes)]


class TraceResult(BaseModel):
    """A trace that was made."""

    trace_id: str
    job_id: str


class DictionaryResult(BaseModel):
    """A dictionary that was learned."""

    dictionary_id: str
    job_id: str


class AnalyzeResult(BaseModel):
    """A circuit that was found."""

    circuit_id: str = Field(examples=["cx_01ARZ3NDEKTSV4RRFFQ69G5FAV"])
    ccs_summary: dict[str, float] = Field(
        description="Causal Contribution Score by unit, strongest first, where it was measured.",
        examples=[{"layer12.f47": 0.18, "layer9.attn.h4": 0.11}],
    )


class EvalResult(BaseModel):
    """A policy that was measured."""

    risk_card_id: str
    card: dict[str, Any] = Field(description="The Risk Card, without samples.")
    job_id: str


class ReportResult(BaseModel):
    """A report that was written."""

    report_id: str
    pdf: str = Field(description="Where to download it.")
    job_id: str


class ProposalResult(BaseModel):
    """A policy that was fitted; `POST /policies` with its `artifact` makes a version of it."""

    artifact: str = Field(description="Id of the policy artifact, with its vectors.")
    yaml: str = Field(description="The policy.")
    job_id: str


def _answers(kind: type[BaseModel], what: str) -> dict[str, Any]:
    """Documents both answers of a submission."""
    location = {
        "Location": {"description": "The job.", "schema": {"type": "string"}},
        "Retry-After": {
            "description": "Seconds after which to look at it.",
            "schema": {"type": "integer"},
        },
    }
    return {
        "status_code": 202,
        "response_class": JSONResponse,
        "responses": {
            200: {"model": kind, "description": f"{what} `Prefer: wait` was long enough."},
            202: {
                "model": JobDocument,
                "description": "The job was accepted.",
                "headers": location,
            },
        },
        "dependencies": [needs(Scope.JOBS_WRITE)],
    }


@routes.post("/traces", tags=["traces"], **_answers(TraceResult, "The trace was made:"))
async def submit_trace(edge: EdgeDep, wishes: WishesDep, body: TraceBody) -> Response:
    """Run prompts through a model and keep its activations at the sites you name."""
    request = tracer_service_pb2.SubmitTraceRequest(
        model=body.model_spec(edge.settings),
        prompts=body.required_source(),
        spec=body.spec,
        idempotency_key=wishes.key,
    )

    async def show(job: Job) -> TraceResult:
        return TraceResult(trace_id=made(job), job_id=job.id)

    renames = (*MODEL_FIELDS, *PROMPT_FIELDS)
    stub = edge.services.tracer
    return await submitted(edge, wishes, "trace", lambda: stub.SubmitTrace(request), renames, show)


@routes.post(
    "/dictionaries",
    tags=["dictionaries"],
    **_answers(DictionaryResult, "The dictionary was learned:"),
)
async def submit_dictionary(edge: EdgeDep, wishes: WishesDep, body: DictionaryBody) -> Response:
    """Learn a feature dictionary (sparse autoencoder) at each site you name.

    From a trace, from prompts that are streamed through the model, or from plain text.
    """
    prompts = body.source()
    sources = {"trace": body.trace, "prompts": prompts, "text_uri": body.text_uri}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        raise invalid(
            given[1] if given else "trace",
            "is given beside another source" if given else "no source of activations is given",
            "give one of trace, prompts, prompts_from and text_uri",
        )
    body = await with_ids(edge, body)
    request = sae_trainer_service_pb2.SubmitDictionaryRequest(
        model=body.model_spec(edge.settings),
        trace=reference(body.trace),
        prompts=prompts,
        spec=body.spec,
        idempotency_key=wishes.key,
    )
    if body.text_uri is not None:
        request.text_uri = body.text_uri

    async def show(job: Job) -> DictionaryResult:
        return DictionaryResult(dictionary_id=made(job), job_id=job.id)

    renames = (*MODEL_FIELDS, *PROMPT_FIELDS, ("trace.id", "trace"))
    stub = edge.services.sae_trainer
    return await submitted(
        edge, wishes, "sae", lambda: stub.SubmitDictionary(request), renames, show
    )


@routes.post("/analyze", tags=["circuits"], **_answers(AnalyzeResult, "The circuit was found:"))
async def analyze(edge: EdgeDep, wishes: WishesDep, body: AnalyzeBody) -> Response:
    """Find the circuit behind a risk.

    That is the heads, MLPs and features that tell risky prompts from harmless ones. A risky prompt
    may bring a harmless twin, in `harmless` or as its `twin`; one without is compared with packaged
    harmless prompts of equal length, and `borrowed` in the circuit's graph says so. With
    `sae_store_id` the features of a dictionary are scored too. With `Prefer: wait=600` the answer is
    `{"circuit_id", "ccs_summary"}`.
    """
    if body.sae_store_id is not None and body.dictionary is not None:
        raise invalid("dictionary", "is given beside sae_store_id", "give one of the two")
    body = await with_ids(edge, body)
    request = circuit_search_service_pb2.SubmitSearchRequest(
        model=body.model_spec(edge.settings),
        task=body.task(),
        prompts=body.contrast(),
        dictionary=reference(body.sae_store_id or body.dictionary),
        spec=body.spec or circuit_pb2.SearchSpec(),
        idempotency_key=wishes.key,
    )

    async def show(job: Job) -> AnalyzeResult:
        graph = await read_json(edge, made(job), CIRCUIT_FILE)
        return AnalyzeResult(circuit_id=made(job), ccs_summary=ccs_summary(graph))

    renames = (
        *MODEL_FIELDS,
        *PROMPT_FIELDS,
        ("task.risk_class", "class"),
        ("task", ""),
        ("dictionary", "sae_store_id" if body.sae_store_id else "dictionary"),
    )
    stub = edge.services.circuit_search
    return await submitted(
        edge, wishes, "circuit", lambda: stub.SubmitSearch(request), renames, show
    )


@routes.post("/eval", tags=["evaluation"], **_answers(EvalResult, "The policy was measured:"))
async def evaluate(edge: EdgeDep, wishes: WishesDep, body: EvalBody) -> Response:
    """Measure a policy and write its Risk Card.

    The card says what the policy prevents, what it costs, and how simple alternatives do beside it,
    each figure with its count and interval.
    """
    if (body.policy is None) == (body.policy_yaml is None):
        raise invalid("policy", "is missing, or given twice", "give policy or policy_yaml")
    if body.suites is not None and body.suites_uri is not None:
        raise invalid("suites_uri", "is given beside suites", "give one of the two")
    body = await with_ids(edge, body)
    if body.policy is not None:
        async with tenant_session(edge.database, current_principal().tenant_id) as session:
            artifact = await policy_artifact(session, body.policy)
        policy = policy_pb2.PolicySource(artifact=reference(artifact))
    else:
        policy = policy_pb2.PolicySource(
            yaml=body.policy_yaml or "", files=reference(body.policy_files)
        )
    request = eval_service_pb2.SubmitEvaluationRequest(
        model=body.model_spec(edge.settings),
        policy=policy,
        only=body.only,
        circuit=reference(body.circuit),
        dictionary=reference(body.dictionary),
        contrast=body.contrast,
        spec=body.spec or evaluation_pb2.EvalSpec(),
        idempotency_key=wishes.key,
    )
    if body.suites is not None:
        request.inline.suites.extend(body.suites)
    else:
        request.suites_uri = body.suites_uri or "package:eval_suites"

    async def show(job: Job) -> EvalResult:
        card = await read_json(edge, made(job), CARD_FILE)
        return EvalResult(risk_card_id=made(job), card=without_samples(card), job_id=job.id)

    renames = (
        *MODEL_FIELDS,
        ("policy.artifact", "policy"),
        ("policy.yaml", "policy_yaml"),
        ("policy.files", "policy_files"),
        ("inline.suites", "suites"),
        ("inline", "suites"),
    )
    stub = edge.services.evaluator
    return await submitted(
        edge, wishes, "eval", lambda: stub.SubmitEvaluation(request), renames, show
    )


@routes.post("/report", tags=["reports"], **_answers(ReportResult, "The report was written:"))
async def report(edge: EdgeDep, wishes: WishesDep, body: ReportBody) -> Response:
    """Write the audit report of a Risk Card as PDF.

    It holds figures, interventions, lineage, and the mapping to the Australian Privacy Principles.
    """
    if (body.risk_card is None) == (body.circuit_id is None):
        raise invalid("risk_card", "is missing, or given twice", "give risk_card or circuit_id")
    body = await with_ids(edge, body)
    card = body.risk_card
    if body.circuit_id is not None:
        async with tenant_session(edge.database, current_principal().tenant_id) as session:
            found = await newest_made_from(session, body.circuit_id, "risk_card")
        if found is None:
            raise NotFoundError(
                f"no Risk Card was made from {body.circuit_id}", fix="evaluate a policy of it first"
            )
        card = found.id
    request = report_service_pb2.SubmitReportRequest(
        risk_card=reference(card),
        spec=report_pb2.ReportSpec(),
        idempotency_key=wishes.key,
    )

    async def show(job: Job) -> ReportResult:
        return ReportResult(report_id=made(job), pdf=f"/reports/{made(job)}.pdf", job_id=job.id)

    stub = edge.services.reporter
    return await submitted(
        edge,
        wishes,
        "report",
        lambda: stub.SubmitReport(request),
        (("risk_card.id", "risk_card"),),
        show,
    )


@routes.post(
    "/policies/propose", tags=["policies"], **_answers(ProposalResult, "The policy was fitted:")
)
async def propose_policy(edge: EdgeDep, wishes: WishesDep, body: ProposalBody) -> Response:
    """Fit a policy to prompts.

    What comes out is a condition that fires on the risk, and the weakest interventions that prevent
    it. A circuit says which units are preferred.
    """
    body = await with_ids(edge, body)
    data = None
    if body.data is not None:
        data = steering_service_pb2.FittingSet(
            train_risky=body.data.train_risky,
            train_harmless=body.data.train_harmless,
            validation_risky=body.data.validation_risky,
            validation_harmless=body.data.validation_harmless,
        )
    request = steering_service_pb2.SubmitPolicyProposalRequest(
        model=body.model_spec(edge.settings),
        circuit=reference(body.circuit),
        dictionary=reference(body.dictionary),
        data=data,
        spec=body.spec or policy_pb2.ProposeSpec(),
        idempotency_key=wishes.key,
    )

    async def show(job: Job) -> ProposalResult:
        text = await read_text(edge, made(job), POLICY_FILE)
        return ProposalResult(artifact=made(job), yaml=text, job_id=job.id)

    renames = (*MODEL_FIELDS, ("circuit.id", "circuit"), ("dictionary.id", "dictionary"))
    stub = edge.services.steering
    return await submitted(
        edge, wishes, "policy", lambda: stub.SubmitPolicyProposal(request), renames, show
    )


async def submitted(
    edge: Edge,
    wishes: Wishes,
    kind: str,
    call: Callable[[], Awaitable[Submission]],
    renames: Renames,
    show: Callable[[Job], Awaitable[BaseModel]],
) -> Response:
    """The answer to a submission: the job, or what it made where the caller waited long enough.

    Args:
        edge: What the request is served with.
        wishes: Of the caller.
        kind: The kind of job, as the table of jobs names it.
        call: The call that submits it.
        renames: From the contract's fields to those of the body.
        show: What a caller gets who waited.

    Raises:
        ProblemError: When it was not accepted, or has failed while the caller waited.
    """
    with edge.services.calling(renames):
        accepted = await call()
    document = JobDocument.of_message(accepted.job, kind)
    headers = {"location": f"/jobs/{document.id}"}
    if accepted.replayed:
        headers["idempotency-replayed"] = "true"
    if wishes.wait:
        longest = min(float(wishes.wait), edge.settings.edge.max_wait_seconds)
        headers["preference-applied"] = f"wait={longest:g}"
        job = await wait_until_final(edge, document.id, longest)
        if job.state == JobState.SUCCEEDED:
            shown = await show(job)
            return JSONResponse(shown.model_dump(mode="json"), headers=headers)
        if JobState(job.state).final:
            raise _failed(job, renames)
        document = JobDocument.of(job)
    headers["retry-after"] = str(_RETRY_SECONDS)
    return JSONResponse(document.model_dump(mode="json"), 202, headers)


def made(job: Job) -> str:
    """Id of the artifact that a job made."""
    assert job.result_artifact_id is not None  # a job of these kinds makes one
    return job.result_artifact_id


def _failed(job: Job, renames: Renames) -> ProblemError:
    error = job.error or {}
    state = JobState(job.state)
    problem = error.get("problem", f"the job is {state.lower().replace('_', ' ')}")
    field = body_path(error.get("field", ""), renames)
    return ProblemError(
        Problem(
            _FAILURES[state],
            problem,
            error.get("fix", "submit it again if it is still wanted"),
            field,
            (FieldProblem(field, problem),) if field else (),
        ),
        job=job.id,
    )
