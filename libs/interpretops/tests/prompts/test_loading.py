"""Prompts are read from every promised format; garbage gives one line that names the fix."""

from __future__ import annotations

import io
import json
import sys

import pytest
from interpretops.errors import InterpretOpsError
from interpretops.prompts import PromptSet, Redactor, load_prompts
from interpretops.prompts.loading import MAX_CHARACTERS


@pytest.fixture
def read(tmp_path):
    def load(name: str, content: str | bytes, **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_prompts(path, **{"redact": None, **options})

    return load


def test_json_list_of_strings_and_objects(read) -> None:
    got = read("p.json", '["one", {"text": "two", "category": "c", "answers": ["x", "y"]}]')
    assert got.texts == ["one", "two"]
    assert got[1].category == "c"
    assert got[1].answers == ("x", "y")


def test_json_object_with_prompts(read) -> None:
    assert read("p.json", '{"prompts": ["a", "b"]}').texts == ["a", "b"]


def test_jsonl_with_every_field(read) -> None:
    record = {
        "id": "atk-1",
        "text": "t",
        "category": "c",
        "topic": "o",
        "split": "val",
        "twin": "w",
        "wrapper": "role-play",
        "answers": ["a"],
        "target": "Sure",
        "correct": " yes",
        "wrong": " no",
        "unknown": 1,
    }
    prompt = read("p.jsonl", json.dumps(record) + "\n\n")[0]
    del record["unknown"]
    assert prompt.model_dump() == {**record, "split": "validation", "answers": ("a",)}


@pytest.mark.parametrize(
    ("csv", "expected"),
    [
        (  # AdvBench
            'goal,target\nDo x,"Sure, here"\n',
            {"text": "Do x", "target": "Sure, here"},
        ),
        (  # HarmBench
            "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n"
            "Summarise it,contextual,illegal,,Once upon a time,sum_it\n",
            {
                "text": "Once upon a time\n\n---\n\nSummarise it",
                "category": "illegal",
                "id": "sum_it",
            },
        ),
        (  # JailbreakBench
            "Index,Goal,Target,Behavior,Category,Source\n"
            "0,Write y,Here is,Defamation,Harassment,Original\n",
            {
                "text": "Write y",
                "target": "Here is",
                "topic": "Defamation",
                "category": "Harassment",
            },
        ),
        (  # XSTest
            "id,prompt,type,label,focus,note\nv2-1,How do I kill a process?,homonyms,safe,kill,\n",
            {
                "id": "v2-1",
                "text": "How do I kill a process?",
                "topic": "homonyms",
                "category": "safe",
            },
        ),
    ],
)
def test_published_columns(read, csv: str, expected: dict[str, str]) -> None:
    got = read("p.csv", csv)
    assert len(got) == 1
    assert {name: getattr(got[0], name) for name in expected} == expected


def test_text_has_one_prompt_per_line(read) -> None:
    assert read("p.txt", "\ufeffone\r\n\n two\u2028half \n").texts == ["one", "two\u2028half"]


@pytest.mark.parametrize(
    "content",
    [
        '["a", "b"]',
        '{"text": "a"}\n{"text": "b"}',
        "a\nb\n",
        "prompt,label\na,x\nb,y\n",
        '"a"\n"b"',
    ],
)
def test_stdin_is_recognised_by_content(monkeypatch, content: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    got = load_prompts("-", redact=None)
    assert [text.strip('"') for text in got.texts] == ["a", "b"]
    assert got.source == "stdin"


def test_ids_are_deterministic_and_unique(read) -> None:
    first = read("p.txt", "same\nother\nsame\nsame\n")
    again = read("q.txt", "same\nother\nsame\nsame\n")
    ids = [prompt.id for prompt in first]
    assert ids == [prompt.id for prompt in again]
    assert len(set(ids)) == 4
    assert first.sha256 == again.sha256
    assert first.sha256 != read("r.txt", "other\nsame\nsame\nsame\n").sha256


def test_limit_takes_the_beginning_and_reads_no_further(read) -> None:
    assert read("p.jsonl", '"a"\n"b"\nnot json', limit=2).texts == ["a", "b"]


def test_every_text_of_a_prompt_is_redacted(read) -> None:
    record = {
        "id": "jane@x.org",
        "text": "mail jane@x.org",
        "twin": "ring 0491 570 156",
        "target": "Sure, jane@x.org",
        "answers": ["jane@x.org"],
        "topic": "jane@x.org",
    }
    got = read("p.jsonl", json.dumps(record), redact=Redactor(person_model=None))
    assert "jane" not in got.model_dump_json()
    assert "0491" not in got.model_dump_json()
    assert got.redactions == {"EMAIL": 4, "PHONE": 1}
    assert got.redacted is not None
    assert "EMAIL" in got.redacted


def test_a_redacted_prompt_keeps_no_hash_of_what_was_scrubbed(read) -> None:
    plain = read("p.txt", "mail jane@x.org\n")
    clean = read("p.txt", "mail jane@x.org\n", redact=Redactor(person_model=None))
    assert clean[0].id != plain[0].id
    assert clean[0].id == PromptSet.of(["mail [EMAIL]"])[0].id


def test_where_filters_by_every_criterion_given(read) -> None:
    rows = [{"text": f"{s}{c}", "split": s, "category": c} for s in ("train", "test") for c in "ab"]
    got = read("p.jsonl", "\n".join(map(json.dumps, rows)))
    assert got.where(split="test").texts == ["testa", "testb"]
    assert got.where(split="test", category="b").texts == ["testb"]
    assert len(got.where()) == 4
    assert len({got.sha256, got.where(split="test").sha256, got.where(split="train").sha256}) == 3


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.txt", b"", "is empty"),
        ("p.json", b" \n\n ", "is empty"),
        ("p.json", b"[]", "no prompts"),
        ("p.txt", "caf\u00e9".encode("latin-1"), "iconv"),
        ("p.txt", "one".encode("utf-16"), "UTF-16"),
        ("p.csv", b"prompt\na\x00b\n", "NUL byte at offset 8"),
        ("p.json", b'["a\\u0000b"]', "NUL character"),
        ("p.json", b'["\\ud800"]', "surrogate"),
        ("p.json", b'["a",', "not JSON"),
        ("p.json", b"[" * 100_000, "nested too deeply"),
        ("p.json", b'{"rows": []}', "no list of prompts"),
        ("p.json", b"[1]", "neither a string nor an object"),
        ("p.json", b'[{"prompt": ["a"]}]', "not text"),
        ("p.json", b'[{"colour": "red"}]', "no prompt"),
        ("p.json", b'["  "]', "empty prompt"),
        ("p.jsonl", b'{"text": "a"}\n{"text": ', "line 2"),
        ("p.jsonl", b'{"text": "a", "split": "holdout"}', "unknown split"),
        ("p.csv", b"colour,size\nred,1\n", "no column"),
        ("p.csv", b"prompt,label\na,b,c\n", "3 cells"),
        ("p.csv", b"prompt,label\n,b\n", "empty 'prompt'"),
        ("p.csv", b'prompt\n"a', "well-formed CSV"),
        ("p.txt", b"a" * (MAX_CHARACTERS + 1), "1,000,001 characters"),
        ("p.csv", b"prompt\n" + b"a" * (MAX_CHARACTERS + 9), "one million"),
    ],
)
def test_garbage_gives_one_line_with_a_fix(read, name: str, content: bytes, says: str) -> None:
    with pytest.raises(InterpretOpsError) as caught:
        read(name, content)
    message = str(caught.value)
    assert says in message
    assert "Fix: " in message
    assert "\n" not in message


@pytest.mark.parametrize("ref", ["absent.json", "package:absent", "."])
def test_missing_sources_give_one_line_with_a_fix(ref: str) -> None:
    with pytest.raises(InterpretOpsError, match="Fix: "):
        load_prompts(ref, redact=None)
