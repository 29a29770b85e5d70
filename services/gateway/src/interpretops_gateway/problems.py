"""Errors as callers see them: RFC 9457 problem documents, and OpenAI's shape on its routes."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import grpc
from fastapi.exceptions import RequestValidationError
from interpretops_platform.alarms import AlarmClosedError
from interpretops_platform.annotations import AnnotationChangedError
from interpretops_platform.artifacts import ArtifactDamagedError
from interpretops_platform.database.engine import is_transient
from interpretops_platform.jobs.retry import NotToBeRetriedError
from interpretops_platform.names import NameTakenError
from interpretops_platform.objects.blobs import StoreUnavailableError
from interpretops_platform.objects.sealed import SealBrokenError
from interpretops_platform.objects.store import ObjectCorruptError
from interpretops_platform.policies import PolicyChangedError, PolicyStateError
from interpretops_platform.rpc.problems import PLATFORM_CODES, FieldProblem, Problem, describe
from interpretops_platform.security.tokens import ProviderUnavailableError
from interpretops_platform.tenants import TenantShreddedError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from interpretops_gateway.contracts import ARTIFACT, ARTIFACT_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from interpretops_platform.errors import NotFoundError
    from starlette.requests import Request
    from starlette.types import Scope

MEDIA_TYPE = "application/problem+json"
OPENAI = "/v1/"
"""Where OpenAI's routes are."""

_CODES = {
    **PLATFORM_CODES,
    StoreUnavailableError: grpc.StatusCode.UNAVAILABLE,
    AlarmClosedError: grpc.StatusCode.FAILED_PRECONDITION,
    NameTakenError: grpc.StatusCode.FAILED_PRECONDITION,
    PolicyStateError: grpc.StatusCode.FAILED_PRECONDITION,
    NotToBeRetriedError: grpc.StatusCode.FAILED_PRECONDITION,
    TenantShreddedError: grpc.StatusCode.NOT_FOUND,
    # What we keep is not what we stored: nothing a caller can do, and worth a traceback.
    ArtifactDamagedError: grpc.StatusCode.INTERNAL,
    ObjectCorruptError: grpc.StatusCode.INTERNAL,
    SealBrokenError: grpc.StatusCode.INTERNAL,
}
_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.UNPROCESSABLE_ENTITY,
    grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.UNPROCESSABLE_ENTITY,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.CANCELLED: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}
_FIXES = {
    HTTPStatus.NOT_FOUND: "look the address up in /openapi.json",
    HTTPStatus.METHOD_NOT_ALLOWED: "use a method that the Allow header names",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "send less, or name a dataset by its URI",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "send JSON with Content-Type: application/json",
    HTTPStatus.BAD_REQUEST: "send valid JSON",
}
_NO_ARTIFACT = {
    ARTIFACT_ID: "is not the id of an artifact, such as sae_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ARTIFACT: "is neither the id of an artifact, such as sae_01ARZ3NDEKTSV4RRFFQ69G5FAV, nor a name, "
    "such as sae_v1",
}
_RETRY_SECONDS = 2.0
_MAX_ERRORS = 50
_MAX_MESSAGE = 500


class ProblemField(BaseModel):
    """A field of the request at fault."""

    field: str = Field(description="Its path, such as `pairs[0].risky`; empty for the whole.")
    where: str = Field(description="`body`, `query`, `path` or `header`.")
    problem: str = Field(description="What is wrong, as a clause.")
    rule: str = Field(default="", description="Name of the rule it breaks, where it has one.")


class ProblemDocument(BaseModel):
    """Why a request failed (RFC 9457). `detail` says what is wrong and `fix` what to do about it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:interpretops:problem:not-found",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "there is no job job_01ARZ3NDEKTSV4RRFFQ69G5FAV",
                    "fix": "list the jobs you have",
                    "instance": "/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV",
                    "request_id": "6f1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e",
                }
            ]
        }
    )

    type: str = Field(
        description="Names the kind of problem, such as `urn:interpretops:problem:…`."
    )
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong with this request.")
    fix: str | None = Field(default=None, description="What to do about it.")
    instance: str | None = Field(default=None, description="The path that was asked for.")
    request_id: str | None = Field(default=None, description="Finds the request in our logs.")
    field: str | None = Field(default=None, description="The first field at fault.")
    errors: list[ProblemField] | None = Field(default=None, description="All fields at fault.")
    retry_after: float | None = Field(
        default=None, description="Seconds after which the same request may succeed."
    )
    error_id: str | None = Field(
        default=None, description="Finds a defect's traceback in our logs."
    )
    job: str | None = Field(default=None, description="The job that failed, where one did.")


class OpenAIErrorBody(BaseModel):
    """Why a request below `/v1` failed."""

    message: str = Field(description="What is wrong, and what to do about it.")
    type: str = Field(description="As OpenAI's, such as `invalid_request_error`.")
    param: str | None = Field(description="The field at fault.")
    code: str = Field(description="The kind of problem, such as `not_found`.")
    request_id: str | None = Field(description="Finds the request in our logs.")


class OpenAIError(BaseModel):
    """An error as OpenAI's clients expect it."""

    error: OpenAIErrorBody


class ProblemError(Exception):
    """A problem that an endpoint states by itself.

    Args:
        problem: What is wrong and what to do.
        job: Id of the job that failed.
    """

    def __init__(self, problem: Problem, *, job: str | None = None) -> None:
        super().__init__(problem.problem)
        self.problem = problem
        self.job = job


def invalid(field: str, problem: str, fix: str) -> ProblemError:
    """A field of the body at fault, answered with 422."""
    said = (FieldProblem(field, problem),)
    return ProblemError(
        Problem(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {problem}", fix, field, said)
    )


def missing(field: str, error: NotFoundError) -> ProblemError:
    """What a field of the body names is not there, answered with 404."""
    said = (FieldProblem(field, error.problem),)
    return ProblemError(
        Problem(grpc.StatusCode.NOT_FOUND, f"{field}: {error.problem}", error.fix, field, said)
    )


def answer(request: Request, error: Exception) -> JSONResponse:
    """The response that answers a request in which this was raised."""
    headers: dict[str, str] = {}
    document = _document(error, headers)
    document.instance = request.url.path
    document.request_id = getattr(request.state, "request_id", None)
    if document.retry_after is not None:
        headers.setdefault("retry-after", str(max(1, math.ceil(document.retry_after))))
    if document.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = 'Bearer realm="interpretops"'
    if is_openai(request.scope):
        if document.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            document.status = HTTPStatus.BAD_REQUEST.value
        return JSONResponse(_openai(document), document.status, headers)
    return JSONResponse(
        document.model_dump(exclude_none=True), document.status, headers, media_type=MEDIA_TYPE
    )


def is_openai(scope: Scope) -> bool:
    """Whether a request is for OpenAI's routes, whose clients expect its shape of errors."""
    path: str = scope.get("path", "")
    return path.startswith(OPENAI)


def _document(error: Exception, headers: dict[str, str]) -> ProblemDocument:
    if isinstance(error, HTTPException):
        headers.update(error.headers or {})
        return _of_http(error)
    if isinstance(error, RequestValidationError):
        return _of_validation(error)
    if isinstance(error, ProblemError):
        return _of_problem(error.problem, job=error.job)
    if isinstance(error, ProviderUnavailableError):
        return _of_problem(_away("the identity provider does not answer"))
    if isinstance(error, PolicyChangedError | AnnotationChangedError):
        return ProblemDocument(
            **_kind(HTTPStatus.PRECONDITION_FAILED), detail=error.problem, fix=error.fix
        )
    if is_transient(error):
        return _of_problem(_away("the database does not answer"))
    return _of_problem(describe(error, _CODES))


def _away(what: str) -> Problem:
    return Problem(
        grpc.StatusCode.UNAVAILABLE, what, "try again in a moment", retry_after=_RETRY_SECONDS
    )


def _of_problem(problem: Problem, *, job: str | None = None) -> ProblemDocument:
    status = _STATUSES.get(problem.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    retry_after = problem.retry_after
    if retry_after is None and status == HTTPStatus.SERVICE_UNAVAILABLE:
        retry_after = _RETRY_SECONDS
    errors = [
        ProblemField(field=item.field, where="body", problem=item.problem, rule=item.rule)
        for item in problem.fields
    ]
    return ProblemDocument(
        **_kind(status),
        detail=problem.problem,
        fix=problem.fix or None,
        field=problem.field or None,
        errors=errors or None,
        retry_after=retry_after,
        error_id=problem.error_id,
        job=job,
    )


def _of_http(error: HTTPException) -> ProblemDocument:
    status = HTTPStatus(error.status_code)
    said = error.detail if error.detail != status.phrase else status.description or status.phrase
    return ProblemDocument(**_kind(status), detail=str(said), fix=_FIXES.get(status))


def _of_validation(error: RequestValidationError) -> ProblemDocument:
    found = [_field_of(item) for item in error.errors()[:_MAX_ERRORS]]
    first = found[0]
    if first.rule == "json_invalid":
        status = HTTPStatus.BAD_REQUEST
        return ProblemDocument(
            **_kind(status), detail=f"the body is no JSON: {first.problem}", fix=_FIXES[status]
        )
    name = first.field or first.where
    return ProblemDocument(
        **_kind(HTTPStatus.UNPROCESSABLE_ENTITY),
        detail=f"{name}: {first.problem}",
        fix="list what you have with GET /artifacts and GET /names"
        if first.problem in _NO_ARTIFACT.values()
        else "correct the request",
        field=first.field or None,
        errors=found,
    )


def _field_of(item: Mapping[str, Any]) -> ProblemField:
    where, *path = item["loc"] or ("body",)
    rule = str(item["type"])
    said = str(item.get("ctx", {}).get("error", "")) if rule == "json_invalid" else str(item["msg"])
    if rule == "json_invalid":
        path = []
    said = said.removeprefix("Value error, ")
    said = _NO_ARTIFACT.get(item.get("ctx", {}).get("pattern"), said)
    return ProblemField(
        field=field_path(path), where=str(where), problem=said[:_MAX_MESSAGE], rule=rule
    )


def field_path(parts: list[str | int]) -> str:
    """A path as callers write it: `pairs[0].risky`."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif "[" not in part:  # pydantic also names the validators it went through
            path += f".{part}" if path else part
    return path[:_MAX_MESSAGE]


def _kind(status: HTTPStatus) -> dict[str, Any]:
    name = status.phrase.lower().replace(" ", "-")
    return {
        "type": f"urn:interpretops:problem:{name}",
        "title": status.phrase,
        "status": status.value,
    }


def _openai(document: ProblemDocument) -> dict[str, Any]:
    kinds = {
        HTTPStatus.UNAUTHORIZED: "authentication_error",
        HTTPStatus.FORBIDDEN: "permission_error",
        HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    }
    server = document.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    default = "server_error" if server else "invalid_request_error"
    fix = f". Fix: {document.fix}." if document.fix else "."
    body = OpenAIErrorBody(
        message=f"{document.detail}{fix}",
        type=kinds.get(HTTPStatus(document.status), default),
        param=document.field,
        code=document.type.rpartition(":")[2].replace("-", "_"),
        request_id=document.request_id,
    )
    return OpenAIError(error=body).model_dump()
