"""Prompts from files, standard input and the package's own data.

Formats by suffix: `.json` (a list of strings or objects, or `{"prompts": [...]}`), `.jsonl`, `.csv`
and `.tsv`, `.txt` (one prompt per line). Standard input (`-`) and other suffixes are recognised by
their content.

Column and key names are matched without regard to case. Besides our own (the fields of `Prompt`),
these sets are read as published: BLiMP (sentence_good, sentence_bad), LAMBADA (context, target),
AdvBench (goal, target), HarmBench (Behavior, SemanticCategory, ContextString, BehaviorID),
JailbreakBench (Goal, Target, Behavior, Category) and XSTest (prompt, type, label).
"""

from __future__ import annotations

import csv
import io
import json
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpretops.errors import InterpretOpsError
from interpretops.prompts.prompt import Prompt, PromptSet, prompt_id, unique_ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from interpretops.prompts.redaction import Redactor

PACKAGE = "package:"
MAX_CHARACTERS = 1_000_000  # of one prompt: more than any model's context
MAX_BYTES = 1 << 30  # of one source

# Each field's names in the wild, the surest first. JailbreakBench has both Goal and Behavior, where
# Behavior is a title; HarmBench has Behavior alone, and it is the text.
_TEXT = (
    "text",
    "prompt",
    "goal",
    "behavior",
    "behaviour",
    "question",
    "instruction",
    "query",
    "input",
    "sentence_good",
    "context",
)
_ID = ("id", "behaviorid", "prompt_id", "uid")
_CATEGORY = ("category", "semanticcategory", "label", "risk", "risk_class")
_TOPIC = ("topic", "type")
_TARGET = ("target",)
_ANSWERS = ("answers", "answer")
_CONTEXT = ("contextstring",)
_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


def load_prompts(
    ref: str | Path, *, redact: Redactor | None, limit: int | None = None
) -> PromptSet:
    """Read prompts.

    Args:
        ref: A file, `-` for standard input, or `package:NAME` for data shipped with the package.
        redact: Scrubs personal information from every text before anything else sees it; None
            keeps texts as they are.
        limit: Take at most this many prompts, from the beginning.

    Raises:
        InterpretOpsError: When the source is missing, empty, not UTF-8 text, or holds no prompts in
            a form that is recognised. The message names what to change.
    """
    if limit is not None and limit < 1:
        raise InterpretOpsError(f"a limit of {limit} leaves no prompts", fix="give at least 1")
    source, suffix, data = _read(str(ref))
    text = _decode(data, source)
    prompts: list[Prompt] = []
    for where, record in _records(text, suffix, source):
        prompts.append(_prompt(record, where, source))
        if limit is not None and len(prompts) == limit:
            break
    if not prompts:
        raise InterpretOpsError(f"{source} holds no prompts", fix="add at least one prompt to it")
    loaded = PromptSet(prompts=unique_ids(prompts), source=source)
    return loaded if redact is None else loaded.redact(redact)


def packaged() -> list[str]:
    """Names that `package:NAME` accepts."""
    folder = resources.files("interpretops") / "data"
    if not folder.is_dir():
        return []
    return sorted(
        f.name.removesuffix(".jsonl") for f in folder.iterdir() if f.name.endswith(".jsonl")
    )


# --- bytes ----------------------------------------------------------------------------------------


def _read(ref: str) -> tuple[str, str, bytes]:
    """A source's name for messages and manifests, its suffix, and its bytes."""
    if ref == "-":
        return "stdin", "", sys.stdin.buffer.read(MAX_BYTES + 1)
    if ref.startswith(PACKAGE):
        name = ref.removeprefix(PACKAGE)
        if name not in packaged():
            raise InterpretOpsError(
                f"there is no packaged data {name!r}",
                fix=f"use one of {', '.join(PACKAGE + known for known in packaged())}",
            )
        return (
            ref,
            ".jsonl",
            (resources.files("interpretops") / "data" / f"{name}.jsonl").read_bytes(),
        )
    path = Path(ref).expanduser()
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InterpretOpsError(
                f"{ref} has {path.stat().st_size:,} bytes, more than {MAX_BYTES:,}",
                fix="split it into several files",
            )
        return path.name, path.suffix.lower(), path.read_bytes()
    except FileNotFoundError as error:
        raise InterpretOpsError(
            f"the prompt file {ref} does not exist",
            fix="correct the path, or use - for standard input or package:NAME for packaged data",
        ) from error
    except OSError as error:
        raise InterpretOpsError(
            f"the prompt file {ref} cannot be read ({error.strerror})", fix="give a readable file"
        ) from error


def _decode(data: bytes, source: str) -> str:
    if not data.strip():
        raise InterpretOpsError(f"{source} is empty", fix="add at least one prompt to it")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InterpretOpsError(
            f"{source} is encoded as UTF-16",
            fix="convert it with `iconv -f UTF-16 -t UTF-8` or save it as UTF-8",
        )
    if (position := data.find(b"\x00")) >= 0:
        raise InterpretOpsError(
            f"{source} has a NUL byte at offset {position}, so it is not plain text",
            fix="give a JSON, JSONL, CSV or text file saved as UTF-8",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InterpretOpsError(
            f"{source} is not UTF-8 (byte 0x{data[error.start]:02x} at offset {error.start})",
            fix="save it as UTF-8, e.g. with `iconv -f WINDOWS-1252 -t UTF-8`",
        ) from error


# --- records --------------------------------------------------------------------------------------

_Record = str | dict[str, Any]


def _records(text: str, suffix: str, source: str) -> Iterator[tuple[str, _Record]]:
    """Each record with the words that say where it is ("line 3")."""
    kind = suffix if suffix in (".json", ".jsonl", ".csv", ".tsv", ".txt") else _recognise(text)
    if kind == ".json":
        return _json_records(text, source)
    if kind == ".jsonl":
        return _jsonl_records(text, source)
    if kind in (".csv", ".tsv"):
        return _csv_records(text, source, delimiter="\t" if kind == ".tsv" else ",")
    return _lines(text)


def _recognise(text: str) -> str:
    start = text.lstrip()[:1]
    if start in ("[", "{"):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return ".jsonl" if start == "{" else ".txt"
        return ".json"
    header = text.lstrip().splitlines()[0]
    for kind, delimiter in ((".csv", ","), (".tsv", "\t")):
        names = [name.strip().strip('"').lower() for name in header.split(delimiter)]
        if any(name in _TEXT for name in names):
            return kind
    return ".txt"


def _lines(text: str) -> Iterator[tuple[str, _Record]]:
    # split at line feeds only: splitlines() would also cut at U+2028 and form feeds inside a prompt
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", line.strip()


def _json_records(text: str, source: str) -> Iterator[tuple[str, _Record]]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InterpretOpsError(
            f"{source} is not JSON ({error})",
            fix="correct it there; a file with one JSON object per line is named .jsonl",
        ) from error
    except RecursionError as error:
        raise InterpretOpsError(
            f"{source} is nested too deeply", fix="give a list of strings or of flat objects"
        ) from error
    if isinstance(document, dict):
        lowered = {str(key).lower(): value for key, value in document.items()}
        document = lowered.get("prompts", [document] if _first(lowered, _TEXT) else None)
    if not isinstance(document, list):
        raise InterpretOpsError(
            f"{source} holds no list of prompts",
            fix='make it a list of strings or objects, or {"prompts": [...]}',
        )
    for number, record in enumerate(document, start=1):
        yield f"prompt {number}", _string_or_object(record, f"prompt {number}", source)


def _jsonl_records(text: str, source: str) -> Iterator[tuple[str, _Record]]:
    for where, line in _lines(text):
        try:
            record = json.loads(str(line))
        except (ValueError, RecursionError) as error:
            raise InterpretOpsError(
                f"{where} of {source} is not JSON ({error})",
                fix="put one JSON string or object on each line",
            ) from error
        yield where, _string_or_object(record, where, source)


def _string_or_object(record: Any, where: str, source: str) -> _Record:
    if isinstance(record, str | dict):
        return record
    raise InterpretOpsError(
        f"{where} of {source} is neither a string nor an object",
        fix='write "the prompt" or {"text": "the prompt"}',
    )


def _csv_records(text: str, source: str, delimiter: str) -> Iterator[tuple[str, _Record]]:
    previous = csv.field_size_limit(MAX_CHARACTERS + 1)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header = [name.strip().lower() for name in next(rows)]
        if not any(name in _TEXT for name in header):
            raise InterpretOpsError(
                f"{source} has no column that holds prompts (it has {', '.join(header[:8])})",
                fix="name the column with the prompts 'prompt' (or goal, behavior, question, text)",
            )
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            where = f"line {rows.line_num}"
            if len(row) > len(header):
                raise InterpretOpsError(
                    f"{where} of {source} has {len(row)} cells but the header names {len(header)}",
                    fix="put cells that contain a comma or a line break in double quotes",
                )
            yield where, dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise InterpretOpsError(
            f"{source} is not well-formed CSV ({error})",
            fix="put cells that contain quotes or line breaks in double quotes and double the "
            "quotes inside; a cell may hold at most one million characters",
        ) from error
    finally:
        csv.field_size_limit(previous)


# --- from a record to a prompt --------------------------------------------------------------------


def _prompt(record: _Record, where: str, source: str) -> Prompt:
    here = f"{where} of {source}"
    if isinstance(record, str):
        text = _checked(record, here)
        return Prompt(id=prompt_id(text), text=text)
    fields = {str(key).strip().lower(): value for key, value in record.items()}
    text_name = _first(fields, _TEXT)
    if text_name is None:
        named = [name for name in _TEXT if name in fields]
        raise InterpretOpsError(
            f"{here} has an empty {named[0]!r}" if named else f"{here} has no prompt",
            fix="fill it in or remove the record"
            if named
            else "give it a 'prompt' (or text, goal, behavior, question)",
        )
    text = _checked(_string(fields[text_name], text_name, here), here)
    if (context := _first(fields, _CONTEXT)) is not None:
        # how HarmBench joins a context and what is asked about it
        text = _checked(f"{_string(fields[context], context, here)}\n\n---\n\n{text}", here)
    topic = _first(fields, _TOPIC)
    if topic is None and text_name == "goal":
        topic = _first(fields, ("behavior",))  # JailbreakBench's title of the goal

    def optional(name: str | None) -> str | None:
        return None if name is None else _string(fields[name], name, here)

    def verbatim(name: str) -> str | None:
        # A continuation's first token depends on the space that it begins with.
        value = fields.get(name)
        return value if isinstance(value, str) and value else optional(_first(fields, (name,)))

    return Prompt(
        id=optional(_first(fields, _ID)) or prompt_id(text),
        text=text,
        category=optional(_first(fields, _CATEGORY)),
        topic=optional(topic),
        split=_split(optional(_first(fields, ("split",))), here),
        twin=optional(_first(fields, ("twin", "sentence_bad"))),
        wrapper=optional(_first(fields, ("wrapper",))),
        answers=_answers(fields, here),
        target=optional(_first(fields, _TARGET)),
        correct=verbatim("correct"),
        wrong=verbatim("wrong"),
    )


def _first(fields: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """The first of the names that is there and not empty."""
    return next((name for name in names if fields.get(name) not in (None, "", [])), None)


def _string(value: Any, name: str, here: str) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise InterpretOpsError(
        f"{here} has a {name!r} that is not text", fix=f"write {name!r} as a string"
    )


def _answers(fields: Mapping[str, Any], here: str) -> tuple[str, ...]:
    name = _first(fields, _ANSWERS)
    if name is None:
        return ()
    value = fields[name]
    values = value if isinstance(value, list) else [value]
    return tuple(_string(item, name, here) for item in values)


def _split(value: str | None, here: str) -> Any:
    if value is None:
        return None
    if value.lower() not in _SPLITS:
        raise InterpretOpsError(
            f"{here} has the unknown split {value!r}", fix="use train, validation or test"
        )
    return _SPLITS[value.lower()]


def _checked(text: str, here: str) -> str:
    text = text.strip()
    if not text:
        raise InterpretOpsError(f"{here} is an empty prompt", fix="fill it in or remove it")
    if len(text) > MAX_CHARACTERS:
        raise InterpretOpsError(
            f"{here} has {len(text):,} characters, more than the {MAX_CHARACTERS:,} of one prompt",
            fix="shorten it or split it into several prompts",
        )
    if "\x00" in text:
        raise InterpretOpsError(f"{here} contains a NUL character", fix="remove it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InterpretOpsError(
            f"{here} has half of a surrogate pair at character {error.start}",
            fix="write the character itself, or both halves of its \\u escape",
        ) from error
    return text
