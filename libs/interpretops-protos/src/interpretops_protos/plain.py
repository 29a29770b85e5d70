"""Messages as the plain data that a specification of their fields reads, and back.

A spec's message mirrors it field by field, but protobuf has no optional lists, no words for enum
values, and no tagged unions. These two functions bridge that, so that a service needs no conversion
of its own:

    TraceSpec.model_validate(to_plain(request.spec))
    from_plain(trace_pb2.TraceSpec, spec.model_dump())

* An unset field and an empty list or map are left out: the spec's default holds.
* An enum value is its name in lower case without the enum's prefix: `SEARCH_METHOD_EAP_IG` is
  `eap_ig`. The unspecified value is left out.
* A message that is nothing but a `oneof` over messages is a tagged union: the case's fields, with
  its name under the name of the `oneof`, as in `{"type": "head_scale", "scale": 0.5, ...}`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google._upb import _message as upb
    from google.protobuf import descriptor as pure
    from google.protobuf.message import Message

    # the two implementations that protobuf ships
    Descriptor = pure.Descriptor | upb.Descriptor
    EnumDescriptor = pure.EnumDescriptor | upb.EnumDescriptor
    FieldDescriptor = pure.FieldDescriptor | upb.FieldDescriptor
    OneofDescriptor = pure.OneofDescriptor | upb.OneofDescriptor

M = TypeVar("M", bound="Message")

_UNSPECIFIED = "UNSPECIFIED"


def to_plain(message: Message) -> dict[str, Any]:
    """The data of a message, as `dict`, `list` and scalars.

    Raises:
        ValueError: When an enum has a number, or a union a case, that this version does not know.
    """
    union = _union(message.DESCRIPTOR)
    if union is not None:
        case = message.WhichOneof(union.name)
        if case is None:
            raise ValueError(f"{message.DESCRIPTOR.name} has none of the cases of {union.name!r}")
        return {union.name: case, **to_plain(getattr(message, case))}
    data: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            if _is_map(field):
                plain: Any = dict(value)
            else:
                plain = [_plain(field, item) for item in value]
            if plain:
                data[field.name] = plain
        elif (
            message.HasField(field.name)
            if field.has_presence
            else not _is_unspecified(field, value)
        ):
            data[field.name] = _plain(field, value)
    return data


def from_plain(kind: type[M], data: Mapping[str, Any]) -> M:
    """The message of a class that holds the data; None leaves a field unset.

    Raises:
        ValueError: When a key, an enum's word or a union's case does not exist, or a number does
            not fit its field.
        TypeError: When a value has another type than its field.
    """
    message = kind()
    _fill(message, data)
    return message


def _fill(message: Message, data: Mapping[str, Any]) -> None:
    kind = message.DESCRIPTOR
    union = _union(kind)
    if union is not None:
        case = data.get(union.name)
        if case not in {field.name for field in union.fields}:
            raise ValueError(f"{kind.name} has no case {case!r} of {union.name!r}")
        chosen = getattr(message, case)
        chosen.SetInParent()
        _fill(chosen, {key: value for key, value in data.items() if key != union.name})
        return
    for name, value in data.items():
        field = kind.fields_by_name.get(name)
        if field is None:
            raise ValueError(f"{kind.name} has no field {name!r}")
        if value is None:
            continue
        if field.is_repeated:
            target = getattr(message, name)
            if _is_map(field):
                target.update(value)
            elif field.message_type is not None:
                for item in value:
                    _fill(target.add(), item)
            else:
                target.extend(_wire(field, item) for item in value)
        elif field.message_type is not None:
            inner = getattr(message, name)
            inner.SetInParent()
            _fill(inner, value)
        else:
            setattr(message, name, _wire(field, value))


def _plain(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return to_plain(value)
    if field.enum_type is None:
        return value
    known = field.enum_type.values_by_number.get(value)
    if known is None:
        raise ValueError(f"{field.enum_type.name} has no value {value}")
    return known.name.removeprefix(_prefix(field.enum_type)).lower()


def _wire(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is None:
        return value
    known = field.enum_type.values_by_name.get(f"{_prefix(field.enum_type)}{str(value).upper()}")
    if known is None or known.number == 0:
        raise ValueError(f"{field.enum_type.name} has no value {value!r}")
    return known.number


def _prefix(enum: EnumDescriptor) -> str:
    return enum.values_by_number[0].name.removesuffix(_UNSPECIFIED)


def _is_unspecified(field: FieldDescriptor, value: Any) -> bool:
    return field.enum_type is not None and value == 0


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _union(kind: Descriptor) -> OneofDescriptor | None:
    """The `oneof` that makes up a whole message, where each of its cases is a message."""
    if len(kind.oneofs) != 1 or len(kind.oneofs[0].fields) != len(kind.fields):
        return None
    if any(field.message_type is None for field in kind.fields) or len(kind.fields) < 2:
        return None  # a lone `optional` field makes a oneof of its own
    return kind.oneofs[0]
