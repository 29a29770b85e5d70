"""Errors as they travel: an exception becomes a google.rpc.Status, and the caller reads it back.

The status carries `ErrorInfo` (problem and fix apart), `BadRequest` (fields at fault), `RetryInfo`
and, for defects, `RequestInfo` with the id under which the traceback was logged.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status

from interpretops_platform.errors import (
    IdempotencyConflictError,
    NotFoundError,
    PlatformError,
    SettingsError,
)
from interpretops_platform.security.principal import ForbiddenError, UnauthenticatedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

logger = logging.getLogger(__name__)

MessageT = TypeVar("MessageT", ErrorInfo, BadRequest, RetryInfo, RequestInfo)

DOMAIN = "interpretops"
DETAILS_HEADER = "grpc-status-details-bin"

# Peers refuse trailers of more than 8 KiB; a request can break any number of rules.
_MAX_TEXT = 500
_MAX_VIOLATIONS_BYTES = 3000

PLATFORM_CODES: Mapping[type[BaseException], grpc.StatusCode] = {
    PlatformError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    IdempotencyConflictError: grpc.StatusCode.ALREADY_EXISTS,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    # The caller can do nothing about it, and its text tells how the installation is set up.
    SettingsError: grpc.StatusCode.INTERNAL,
}
"""From exceptions to codes; the nearest ancestor counts. Services add their own."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """A field at fault.

    Attributes:
        field: Its path, such as `spec.sites[0].layer`; empty where it is the whole message.
        problem: What is wrong, as a clause.
        rule: Name of the rule it breaks, such as `string.min_len`; empty where it has none.
    """

    field: str
    problem: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a call failed, as its caller sees it.

    Attributes:
        code: The status code.
        problem: What is wrong, as a clause.
        fix: What to do about it, in the imperative; empty where nobody said.
        field: The first field at fault; empty where there is none.
        fields: All fields at fault.
        retry_after: Seconds after which the same call may succeed.
        error_id: The id under which a defect was logged.
        reason: Name of the kind of error, such as `NOT_FOUND`.
    """

    code: grpc.StatusCode
    problem: str
    fix: str = ""
    field: str = ""
    fields: tuple[FieldProblem, ...] = ()
    retry_after: float | None = None
    error_id: str | None = None
    reason: str = ""


class CallError(PlatformError):
    """A call ends with this code.

    Args:
        problem: What is wrong, as a clause without a final full stop.
        fix: What to do about it, in the imperative.
        code: The status code.
        fields: The fields at fault.
        retry_after: Seconds after which the same call may succeed.
    """

    def __init__(
        self,
        problem: str,
        *,
        fix: str,
        code: grpc.StatusCode,
        fields: Sequence[FieldProblem] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(problem, fix=fix)
        self.code = code
        self.fields = tuple(fields)
        self.retry_after = retry_after


def status_of(
    error: BaseException, codes: Mapping[type[BaseException], grpc.StatusCode] = PLATFORM_CODES
) -> Status:
    """The status that answers a call in which this was raised.

    Args:
        error: What was raised.
        codes: From exceptions to codes.
    """
    return make_status(describe(error, codes))


def describe(
    error: BaseException, codes: Mapping[type[BaseException], grpc.StatusCode] = PLATFORM_CODES
) -> Problem:
    """What a caller is told about an exception.

    Exceptions with a code answer with their `problem`, `fix` and, where they have them, `field`,
    `fields` and `retry_after`. Everything else is a defect: it is logged with its traceback and
    answered with the id of that line and no more.

    Args:
        error: What was raised.
        codes: From exceptions to codes.
    """
    if isinstance(error, grpc.aio.AioRpcError):
        return _problem_of_callee(error)
    code = error.code if isinstance(error, CallError) else _code_of(type(error), codes)
    if code is grpc.StatusCode.INTERNAL:
        return _defect(error)
    problem = str(getattr(error, "problem", error))
    fields = tuple(getattr(error, "fields", ()))
    if not fields and getattr(error, "field", None):
        fields = (FieldProblem(str(error.field), problem),)  # type: ignore[attr-defined]
    return Problem(
        code=code,
        problem=problem,
        fix=str(getattr(error, "fix", "")),
        field=fields[0].field if fields else "",
        fields=fields,
        retry_after=getattr(error, "retry_after", None),
        reason=code.name,
    )


def make_status(problem: Problem) -> Status:
    """The status that carries a problem; texts and fields are cut to what trailers can hold."""
    said, fix = _cut(problem.problem), _cut(problem.fix)
    details: list[Any] = [
        ErrorInfo(
            reason=problem.reason or problem.code.name,
            domain=DOMAIN,
            metadata={"problem": said, "fix": fix},
        )
    ]
    if problem.fields:
        details.append(_bad_request(problem.fields))
    if problem.retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(max(0, round(problem.retry_after * 1000)))
        details.append(RetryInfo(retry_delay=delay))
    if problem.error_id is not None:
        details.append(RequestInfo(request_id=problem.error_id))
    packed = [AnyMessage() for _ in details]
    for target, detail in zip(packed, details, strict=True):
        target.Pack(detail)
    message = f"{said}. Fix: {fix}." if fix else f"{said}."
    return Status(code=problem.code.value[0], message=message, details=packed)


def problem_of(error: grpc.aio.AioRpcError) -> Problem:
    """Why a call failed, from its status and the details beside it.

    Args:
        error: What the call raised. Errors that never reached a service, such as a refused
            connection, have no details; their text is then the problem.
    """
    code = error.code()
    problem, fix, reason = (error.details() or code.name.lower().replace("_", " ")), "", ""
    fields: tuple[FieldProblem, ...] = ()
    retry_after: float | None = None
    error_id: str | None = None
    for detail in _details(error):
        if (info := _unpack(detail, ErrorInfo)) is not None and info.domain == DOMAIN:
            problem = info.metadata.get("problem", problem)
            fix, reason = info.metadata.get("fix", ""), info.reason
        elif (bad := _unpack(detail, BadRequest)) is not None:
            fields = tuple(
                FieldProblem(item.field, item.description, item.reason)
                for item in bad.field_violations
            )
        elif (retry := _unpack(detail, RetryInfo)) is not None:
            retry_after = retry.retry_delay.ToMilliseconds() / 1000
        elif (request := _unpack(detail, RequestInfo)) is not None:
            error_id = request.request_id
    return Problem(
        code=code,
        problem=problem,
        fix=fix,
        field=fields[0].field if fields else "",
        fields=fields,
        retry_after=retry_after,
        error_id=error_id,
        reason=reason,
    )


def _code_of(
    kind: type[BaseException], codes: Mapping[type[BaseException], grpc.StatusCode]
) -> grpc.StatusCode:
    found = (codes[ancestor] for ancestor in kind.__mro__ if ancestor in codes)
    return next(found, grpc.StatusCode.INTERNAL)


def _defect(error: BaseException) -> Problem:
    error_id = uuid.uuid4().hex
    logger.error("a call failed by a defect", exc_info=error, extra={"error_id": error_id})
    return Problem(
        code=grpc.StatusCode.INTERNAL,
        problem="something went wrong on our side",
        fix=f"report it with the id {error_id}",
        error_id=error_id,
        reason=grpc.StatusCode.INTERNAL.name,
    )


_PASSED_ON = frozenset(
    {
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


def _problem_of_callee(error: grpc.aio.AioRpcError) -> Problem:
    # What another service of ours said about the request holds for whoever asked us. Its network
    # errors name addresses, and INTERNAL is its own defect; neither is passed on as it is.
    said = problem_of(error)
    if said.reason and said.code is not grpc.StatusCode.INTERNAL:
        return said
    if said.code in _PASSED_ON:
        logger.warning("a service we depend on failed", exc_info=error)
        return Problem(
            code=said.code,
            problem="a service this one needs did not answer in time",
            fix="try again later",
            reason=said.code.name,
        )
    return _defect(error)


def _bad_request(fields: Iterable[FieldProblem]) -> BadRequest:
    bad = BadRequest()
    for item in fields:
        violation = BadRequest.FieldViolation(
            field=_cut(item.field), description=_cut(item.problem), reason=_cut(item.rule)
        )
        if bad.ByteSize() + violation.ByteSize() > _MAX_VIOLATIONS_BYTES:
            break
        bad.field_violations.append(violation)
    return bad


def _details(error: grpc.aio.AioRpcError) -> list[AnyMessage]:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_HEADER and isinstance(value, bytes):
            try:
                return list(Status.FromString(value).details)
            except DecodeError:
                return []
    return []


def _unpack(detail: AnyMessage, kind: type[MessageT]) -> MessageT | None:
    message = kind()
    return message if detail.Unpack(message) else None


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"
