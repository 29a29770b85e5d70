"""Checks requests against the rules that stand beside their fields in the contracts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import protovalidate
from google.protobuf.message_factory import GetMessageClass

from interpretops_platform.rpc.problems import CallError, FieldProblem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message
    from protovalidate import Violation


def require_valid(request: Message) -> None:
    """Go on only if a request keeps all its rules.

    Raises:
        CallError: INVALID_ARGUMENT with the fields at fault.
    """
    violations = protovalidate.collect_violations(request)
    if not violations:
        return
    fields = tuple(_field_problem(violation) for violation in violations)
    first = fields[0]
    raise CallError(
        f"{first.field}: {first.problem}" if first.field else first.problem,
        fix="correct the request",
        code=grpc.StatusCode.INVALID_ARGUMENT,
        fields=fields,
    )


def require_compiled(descriptor: Descriptor) -> None:
    """Compile a request's rules now, not with the first call.

    Args:
        descriptor: The request's type.

    Raises:
        protovalidate.CompilationError: When a rule in the contract makes no sense.
    """
    protovalidate.collect_violations(GetMessageClass(descriptor)())


def _field_problem(violation: Violation) -> FieldProblem:
    said = violation.proto
    path = "" if said.field is None else _path(said.field.elements)
    return FieldProblem(path, said.message.rstrip("."), said.rule_id)


def _path(elements: Iterable[object]) -> str:
    parts: list[str] = []
    for element in elements:
        name, subscript = element.field_name, element.subscript  # type: ignore[attr-defined]
        if subscript is not None:
            key = subscript.value
            name += f'["{key}"]' if isinstance(key, str) else f"[{key}]"
        parts.append(name)
    return ".".join(parts)
