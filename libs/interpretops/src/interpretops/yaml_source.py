"""YAML that people write, read strictly: every complaint names the line, the key and the fix."""

from __future__ import annotations

import difflib
import math
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

Model = TypeVar("Model", bound=BaseModel)
KeyPath = tuple[str | int, ...]

MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Complaint:
    """Something that is wrong with a document.

    Attributes:
        field: The key at fault, such as `interventions[0].scale`; empty where it is the whole.
        line: Where that is, from 1; None where it is nowhere in particular.
        column: Likewise.
        problem: What is wrong, as a clause.
        fix: What to do about it, in the imperative.
    """

    field: str
    line: int | None
    column: int | None
    problem: str
    fix: str


class InvalidYamlError(InterpretOpsError):
    """A document is not YAML, or not what it should be.

    Args:
        source: What the document is called.
        complaints: Everything that is wrong with it, first what is to be put right first.
    """

    def __init__(self, source: str, complaints: Sequence[Complaint]) -> None:
        first = complaints[0]
        place = source if first.line is None else f"{source}:{first.line}:{first.column}"
        field = f" {first.field}:" if first.field else ""
        more = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
        super().__init__(f"{place}{field} {first.problem}{more}", fix=first.fix)
        self.complaints = tuple(complaints)


@dataclass(frozen=True)
class Located:
    """Plain data, and where in the text each key of it stands (line and column from 1)."""

    data: Any
    places: dict[KeyPath, tuple[int, int]]
    source: str

    def place(self, path: KeyPath) -> tuple[int, int]:
        """Line and column of a key, or of the nearest thing that encloses it."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]

    def at(self, path: KeyPath) -> str:
        """`file:line:column` of a key, or of the nearest thing that encloses it."""
        line, column = self.place(path)
        return f"{self.source}:{line}:{column}"


def validate_yaml(model: type[Model], path: Path) -> Model:
    """Read a YAML file into a strict pydantic model.

    Raises:
        InterpretOpsError: When the file is missing, is not YAML, or does not fit the model.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise InterpretOpsError(
            f"the file {path} does not exist", fix="correct the path"
        ) from error
    except OSError as error:
        raise InterpretOpsError(
            f"{path} cannot be read ({error.strerror})", fix="name a file that you may read"
        ) from error
    return validate_text(model, raw, source=str(path))


def validate_text(model: type[Model], raw: bytes, *, source: str) -> Model:
    """Read YAML text into a strict pydantic model; see `validate_yaml`."""
    located = load_yaml(raw, source=source)
    try:
        return model.model_validate(located.data)
    except ValidationError as error:
        raise _explain(error, model, located) from error


def load_yaml(raw: bytes, *, source: str) -> Located:
    """Plain data of one YAML document whose top level is a mapping.

    Anchors and aliases are refused: they can make a small file enormous.

    Raises:
        InterpretOpsError: When it is not such a document, or a key stands twice.
    """
    if len(raw) > MAX_BYTES:
        raise _wrong(
            source,
            None,
            f"has {len(raw):,} bytes; at most {MAX_BYTES:,} are read",
            fix="split it, or name the right file",
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _wrong(
            source, None, f"is not UTF-8 text (byte {error.start})", fix="save it as UTF-8"
        ) from error
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:  # raised before there is a loader to dispose of
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        raise _wrong(
            source,
            (line, column),
            f"this is not YAML: the character #x{error.character:04x} is not allowed",
            fix="remove that character",
        ) from error
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise _wrong(
                source,
                None,
                "uses a YAML alias (*name)",
                fix="write the value out where it is used",
            )
        node = loader.get_single_node()
        if node is None:
            raise _wrong(source, None, "is empty", fix="write at least one key into it")
        if not isinstance(node, yaml.MappingNode):
            raise _wrong(
                source,
                _mark(node.start_mark),
                "the document is not a mapping of keys to values",
                fix="begin with a key such as `meta:`",
            )
        places: dict[KeyPath, tuple[int, int]] = {(): (1, 1)}
        return Located(_plain(node, (), places, loader, source), places, source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        tab = mark is not None and mark.buffer is not None and "\t" in (error.problem or "")
        raise _wrong(
            source,
            None if mark is None else _mark(mark),
            f"this is not YAML: {error.problem or error.context}",
            fix="indent with spaces, not tabs" if tab else "correct the syntax at that place",
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _wrong(
            source,
            None,
            f"is not YAML ({' '.join(str(error).split())[:120]})",
            fix="correct the syntax",
        ) from error
    finally:
        loader.dispose()


def _plain(
    node: yaml.Node,
    path: KeyPath,
    places: dict[KeyPath, tuple[int, int]],
    loader: yaml.SafeLoader,
    source: str,
) -> Any:
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node)
            where = _mark(key_node.start_mark)
            if not isinstance(key, str):
                raise _wrong(
                    source,
                    where,
                    f"the key {key!r} is not text",
                    fix=f'write it in quotes: "{key}"',
                )
            if key in mapping:
                raise _wrong(
                    source,
                    where,
                    f"the key {key!r} stands twice in one mapping",
                    fix="remove or rename one of them",
                )
            inner = (*path, key)
            places[inner] = where
            mapping[key] = _plain(value_node, inner, places, loader, source)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        items = []
        for i, item in enumerate(node.value):
            places[(*path, i)] = _mark(item.start_mark)
            items.append(_plain(item, (*path, i), places, loader, source))
        return items
    value = loader.construct_object(node)
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong(
            source,
            _mark(node.start_mark),
            f"{value} is not a finite number",
            fix="write a finite number",
            field=_dotted(path),
        )
    return value


def _mark(mark: yaml.Mark) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _wrong(
    source: str, place: tuple[int, int] | None, problem: str, *, fix: str, field: str = ""
) -> InvalidYamlError:
    line, column = (None, None) if place is None else place
    return InvalidYamlError(source, [Complaint(field, line, column, problem, fix)])


def _explain(error: ValidationError, model: type[BaseModel], located: Located) -> InvalidYamlError:
    """Every complaint, at its place, with what to write instead."""
    problems = [
        problem
        for problem in error.errors(include_url=False)
        # A list whose items are wrong is then also said to be empty.
        if problem["type"] != "too_short" or not _at(problem["loc"], located.data)
    ]
    # A misspelled key is also a missing one; the spelling is what the writer can put right.
    problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")
    plain = {"extra_forbidden": "this key is unknown", "missing": "this key is missing"}
    complaints = []
    for problem in problems:
        path = _in_data(problem["loc"], located.data)
        message = plain.get(problem["type"], problem["msg"].removeprefix("Value error, "))
        complaints.append(
            Complaint(
                _dotted(path), *located.place(path), message, _fix(problem, path, model, located)
            )
        )
    return InvalidYamlError(located.source, complaints)


def _at(loc: tuple[int | str, ...], data: Any) -> Any:
    for step in _in_data(loc, data):
        data = data[step]
    return data


def _in_data(loc: tuple[int | str, ...], data: Any) -> KeyPath:
    """The part of pydantic's location that is in the data: tags of unions are not."""
    path: KeyPath = ()
    for i, step in enumerate(loc):
        known: Collection[Any] = data if isinstance(data, dict) else ()
        if isinstance(data, list):
            known = range(len(data))
        if step in known:
            path, data = (*path, step), data[step]
        elif i == len(loc) - 1 and isinstance(data, dict):
            path = (*path, step)  # a missing key: its place is its parent's
    return path


def _dotted(path: KeyPath) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "the document"


def _fix(first: Any, path: KeyPath, model: type[BaseModel], located: Located) -> str:
    kind, context = first["type"], first.get("ctx", {})
    name = path[-1] if path else ""
    if kind == "extra_forbidden":
        siblings = _known_keys(model)
        close = difflib.get_close_matches(str(name), siblings, n=1, cutoff=0.6)
        return f"did you mean {close[0]!r}?" if close else f"remove {name!r}"
    if kind == "missing":
        return f"add `{name}:` under {_dotted(path[:-1])}"
    if kind == "union_tag_invalid":
        tags = str(context.get("expected_tags", "")).replace("'", "")
        given = str(context.get("tag", ""))
        close = difflib.get_close_matches(given, tags.split(", "), n=1, cutoff=0.5)
        return f"did you mean {close[0]!r}?" if close else f"use one of {tags}"
    if kind == "union_tag_not_found":
        return f"add `type:` with what it does under {_dotted(path)}"
    if kind in ("literal_error", "enum"):
        close = difflib.get_close_matches(
            str(first.get("input")),
            str(context.get("expected", "")).replace("'", "").split(" "),
            n=1,
        )
        wanted = context.get("expected", "")
        return f"did you mean {close[0]!r}?" if close else f"use {wanted}"
    limits = {
        "greater_than_equal": "ge",
        "less_than_equal": "le",
        "greater_than": "gt",
        "less_than": "lt",
    }
    if kind in limits:
        return f"write a number {first['msg'].removeprefix('Input should be ')}"
    if kind.endswith(("_type", "_parsing")):
        shown = first["msg"].removeprefix("Input should be ")
        return f"write {shown}, not {_short(first.get('input'))}"
    if kind == "too_short":
        return f"list at least one item under {_dotted(path)}"
    suggestion = context.get("error")
    fix = getattr(suggestion, "fix", None)
    return str(fix) if fix else f"correct {_dotted(path)} at {located.at(path)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _known_keys(model: type[BaseModel]) -> list[str]:
    """Names of all fields of a model and of the models inside it."""
    known: set[str] = set()
    seen: set[type[BaseModel]] = set()

    def visit(annotation: Any) -> None:
        origin = get_origin(annotation)
        if origin in (Annotated, Union, types.UnionType, list, tuple, dict):
            for argument in get_args(annotation):
                visit(argument)
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if annotation in seen:
                return
            seen.add(annotation)
            for name, field in annotation.model_fields.items():
                known.add(field.alias or name)
                visit(field.annotation)

    visit(model)
    return sorted(known)


class Wrong(ValueError):
    """A value that a validator refuses, with the fix that `validate_yaml` is to show."""

    def __init__(self, problem: str, *, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix
