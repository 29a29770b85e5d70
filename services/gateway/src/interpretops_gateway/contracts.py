"""Request bodies made of the contracts: a protobuf message as a field of a pydantic model.

The messages of `protos/` are the only schema. Each becomes a pydantic model whose types, bounds and
descriptions are read off it, so that FastAPI checks bodies, names the field at fault and documents
them, and what the endpoint gets is the message itself.

In JSON an enum is its short name (`topk` for `DICTIONARY_KIND_TOPK`), a reference to an artifact is
the artifact's id, and a field that is left out or null is unset.
"""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from functools import cache
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from interpretops_platform.names import NAME_PATTERN
from interpretops_protos.buf.validate import validate_pb2
from interpretops_protos.v1 import artifact_pb2
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import core_schema

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

MessageT = TypeVar("MessageT", bound="Message")

ARTIFACT_ID = r"^(tr|sae|cx|pol|rc|rp)_[0-9A-HJKMNP-TV-Z]{26}$"
"""What an artifact's id looks like."""
ARTIFACT = f"{ARTIFACT_ID}|{NAME_PATTERN}"
"""What stands for an artifact: its id, or a name that people gave it."""
STORABLE = r"^[^\x00]*$"
"""Text that PostgreSQL can store: everything but NUL."""

_REFERENCE = artifact_pb2.ArtifactRef.DESCRIPTOR.full_name
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**63 - 1),  # JSON in the database holds no more
}
_FLOATS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)


@dataclass(frozen=True)
class Contract:
    """Marks a message as a part of a JSON body: `spec: Annotated[trace_pb2.TraceSpec, Contract()]`.

    Args:
        optional: Fields that a body may leave out though the contract asks for them, because the
            edge fills them in.
        without: Fields that a body cannot give.
        shorthand: The field that a plain text stands for, such as `text` of a prompt.
    """

    optional: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    shorthand: str | None = None

    def __get_pydantic_core_schema__(
        self, source: type[Message], handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """The model of the message, and what makes the message of it."""
        model = _model_of(source.DESCRIPTOR, self.optional, self.without)
        schema: core_schema.CoreSchema = core_schema.no_info_after_validator_function(
            lambda values: to_message(values, source), handler.generate_schema(model)
        )
        if self.shorthand is None:
            return schema
        name = self.shorthand
        return core_schema.no_info_before_validator_function(
            lambda value: {name: value} if isinstance(value, str) else value, schema
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The schema of the message's model, or a text where that stands for it."""
        described = handler(schema)
        if self.shorthand is None:
            return described
        text = {"type": "string", "minLength": 1, "pattern": STORABLE}
        return {"anyOf": [text, described]}


def to_message(values: BaseModel, kind: type[MessageT]) -> MessageT:
    """The message that a body's part stands for.

    Args:
        values: An instance of the model made of `kind`.
        kind: The message's class.
    """
    message = kind()
    _fill(message, values)
    return message


def short_name(enum: EnumDescriptor, number: int) -> str:
    """How JSON calls an enum's value: `topk` for `DICTIONARY_KIND_TOPK`."""
    return enum.values_by_number[number].name.removeprefix(_prefix(enum)).lower()


@cache
def _model_of(
    descriptor: Descriptor, optional: tuple[str, ...] = (), without: tuple[str, ...] = ()
) -> type[BaseModel]:
    comments = _comments(descriptor.file.name).get(descriptor.name, {})
    fields: dict[str, Any] = {}
    for field in descriptor.fields:
        if field.name in without:
            continue
        rules = field.GetOptions().Extensions[validate_pb2.field]
        kind = _type_of(field, rules)
        description = comments.get(field.name)
        if field.name not in optional and _is_required(field, rules, without):
            fields[field.name] = (kind, Field(description=description))
        else:
            fields[field.name] = (kind | None, Field(default=None, description=description))
    model: type[BaseModel] = create_model(
        descriptor.name,
        __config__=ConfigDict(extra="forbid", strict=True, protected_namespaces=()),
        __doc__=comments.get("", ""),
        **fields,
    )
    return model


def _is_required(
    field: FieldDescriptor, rules: validate_pb2.FieldRules, without: tuple[str, ...]
) -> bool:
    oneof = field.containing_oneof
    if oneof is not None and len(oneof.fields) > 1:
        left = [other for other in oneof.fields if other.name not in without]
        return len(left) == 1 and oneof.GetOptions().Extensions[validate_pb2.oneof].required
    if rules.required:
        return True
    if field.is_repeated:
        return rules.repeated.min_items > 0
    if field.has_presence or rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE:
        return False
    return rules.string.min_len > 0 or bool(rules.string.pattern)


def _type_of(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Any:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        value = message.fields_by_name["value"]
        return dict[str, _single(value, rules.map.values)]  # type: ignore[misc]
    if not field.is_repeated:
        return _single(field, rules)
    bounds = Field(
        min_length=rules.repeated.min_items or None, max_length=rules.repeated.max_items or None
    )
    return Annotated[list[_single(field, rules.repeated.items)], bounds]  # type: ignore[misc]


def _single(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Any:
    if field.message_type is not None:
        if field.message_type.full_name == _REFERENCE:
            return Annotated[str, Field(pattern=ARTIFACT_ID, description="Id of an artifact.")]
        return _model_of(field.message_type)
    if field.enum_type is not None:
        names = [short_name(field.enum_type, value.number) for value in field.enum_type.values[1:]]
        return Literal[tuple(names)]
    if field.cpp_type in _INTEGERS:
        return Annotated[int, _bounds(field, rules)]
    if field.cpp_type in _FLOATS:
        return Annotated[float, _bounds(field, rules)]
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return bool
    text = rules.string
    # A limit in bytes is checked by the service; in characters it can only be lower.
    longest = text.max_len or text.max_bytes or None
    return Annotated[
        str,
        Field(
            min_length=text.min_len or None,
            max_length=longest,
            pattern=text.pattern or STORABLE,
        ),
    ]


def _bounds(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Any:
    kind = rules.WhichOneof("type")
    said = {} if kind is None else {f.name: value for f, value in getattr(rules, kind).ListFields()}
    bounds = {
        ours: said[theirs]
        for theirs, ours in (("gt", "gt"), ("gte", "ge"), ("lt", "lt"), ("lte", "le"))
        if theirs in said
    }
    if field.cpp_type in _FLOATS:
        return Field(**bounds, allow_inf_nan=False)
    low, high = _INTEGERS[field.cpp_type]
    if "gt" not in bounds:
        bounds.setdefault("ge", low)
    if "lt" not in bounds:
        bounds.setdefault("le", high)
    return Field(**bounds)


def _fill(message: Message, values: BaseModel) -> None:
    for name in values.model_fields_set:
        value = getattr(values, name)
        if value is None:
            continue
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, name).update(value)
        elif field.message_type is not None:
            target = getattr(message, name)
            if field.is_repeated:
                for item in value:
                    _fill_one(target.add(), item)
            else:
                target.SetInParent()
                _fill_one(target, value)
        elif field.is_repeated:
            getattr(message, name).extend(_scalar(field, item) for item in value)
        else:
            setattr(message, name, _scalar(field, value))


def _fill_one(message: Message, value: Any) -> None:
    if isinstance(value, BaseModel):
        _fill(message, value)
    else:
        message.id = value  # type: ignore[attr-defined] # only a reference is no model


def _scalar(field: Any, value: Any) -> Any:
    if field.enum_type is None:
        return value
    return field.enum_type.values_by_name[_prefix(field.enum_type) + value.upper()].number


def _prefix(enum: EnumDescriptor) -> str:
    return enum.values_by_number[0].name.removesuffix("UNSPECIFIED")


@cache
def _comments(proto: str) -> dict[str, dict[str, str]]:
    """What the contract says about its messages (under an empty name) and their fields.

    Compiled contracts carry no comments; the stubs that are generated beside them do.
    """
    name = "interpretops_protos.v1." + Path(proto).stem + "_pb2"
    source = importlib.import_module(name).__file__
    tree = ast.parse(Path(str(source)).with_suffix(".pyi").read_text(encoding="utf-8"))
    found: dict[str, dict[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = {"": ast.get_docstring(node) or "", **_field_comments(node)}
    return found


def _field_comments(node: ast.ClassDef) -> dict[str, str]:
    comments = {}
    for item, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(item, ast.FunctionDef):
            text = ast.get_docstring(item)
            if text:
                comments[item.name] = text
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            match following:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    comments[item.target.id] = cleandoc(text)
    return comments
