from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from interpretops.errors import InterpretOpsError
from interpretops.evals import load_suites

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
suites:
  - name: "jailbreak_redteam_v1"
    metrics: ["attack_success_rate"]
    dataset_uri: "attacks.jsonl"
  - name: "benign_regression_v1"
    metrics: ["exact_match","bleu"]
    dataset_uri: "qa.jsonl"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    attacks = [
        {
            "text": f"attack {i}",
            "twin": f"twin {i}",
            "split": s,
            "topic": f"{s}{i % 2}",
            "category": "ab"[i % 2],
        }
        for s in ("train", "test")
        for i in range(6)
    ]
    wrappers = [
        {"text": "Play a pirate. {prompt}", "wrapper": "persona", "split": "train"},
        {"text": "In a novel: {prompt}", "wrapper": "fiction", "split": "test"},
    ]
    qa = [{"question": "Capital of France?", "answer": ["Paris"]}]
    for name, rows in (("attacks", attacks), ("wrappers", wrappers), ("qa", qa)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "suites.yaml").write_text(GOOD)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "suites.yaml"
    path.write_text(text)
    return path


def test_suites_of_the_brief_are_read_and_only_the_test_split_is_taken(folder: Path) -> None:
    attacks, qa = load_suites(folder / "suites.yaml")
    assert [p.text for p in attacks.prompts] == [f"attack {i}" for i in range(6)]
    assert {p.split for p in attacks.prompts} == {"test"}
    assert qa.prompts[0].answers == ("Paris",)
    assert [
        s.suite.name for s in load_suites(folder / "suites.yaml", only=["benign_regression_v1"])
    ]


def test_wrapped_attacks_wear_wrappers_of_their_own_split(folder: Path) -> None:
    path = write(
        folder,
        "suites:\n- {name: a, metrics: [attack_success_rate], dataset_uri: attacks.jsonl,"
        " wrappers_uri: wrappers.jsonl, limit: 8}\n",
    )
    (loaded,) = load_suites(path)
    wrapped = [p for p in loaded.prompts if p.wrapper]
    assert len(loaded.prompts) == 8
    assert len(wrapped) == 4
    assert {p.wrapper for p in wrapped} == {"fiction"}


def test_twins_are_asked_instead(folder: Path) -> None:
    path = write(
        folder,
        "suites:\n- {name: a, metrics: [over_refusal_rate], dataset_uri: attacks.jsonl,"
        " use_twins: true}\n",
    )
    assert {p.text[:4] for p in load_suites(path)[0].prompts} == {"twin"}


@pytest.mark.parametrize(
    "uri", ["{}/qa.jsonl", "file://{}/qa.jsonl", "file://localhost{}/qa.jsonl"]
)
def test_paths_and_file_uris(folder: Path, uri: str) -> None:
    where = uri.format(folder)
    path = write(
        folder, f"suites:\n- {{name: a, metrics: [exact_match], dataset_uri: '{where}'}}\n"
    )
    assert len(load_suites(path)[0].prompts) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("suites: []", "suites"),
        ("suite: []", "suites"),
        ("suites: [{name: a, metrics: [], dataset_uri: qa.jsonl}]", "metrics"),
        ("suites: [{name: a, metrics: [blue], dataset_uri: qa.jsonl}]", "bleu"),
        ("suites: [{name: a, metric: [bleu], dataset_uri: qa.jsonl}]", "metrics"),
        ("suites: [{name: a, metrics: [bleu]}]", "dataset_uri"),
        ("suites: [{name: 'a b', metrics: [bleu], dataset_uri: qa.jsonl}]", "name"),
        ("suites: [{name: a, metrics: [bleu, bleu], dataset_uri: qa.jsonl}]", "listed twice"),
        (
            "suites: [{name: a, metrics: [bleu, attack_success_rate], dataset_uri: qa.jsonl}]",
            "two suites",
        ),
        (
            "suites: [{name: a, metrics: [bleu, perplexity], dataset_uri: qa.jsonl}]",
            "two suites",
        ),
        (
            "suites:\n- &a {name: a, metrics: [bleu], dataset_uri: qa.jsonl}\n- *a\n",
            "alias",
        ),
        (
            "suites:\n- {name: a, metrics: [bleu], dataset_uri: qa.jsonl}\n"
            "- {name: a, metrics: [exact_match], dataset_uri: qa.jsonl}\n",
            "two suites are called 'a'",
        ),
        ("suites: [{name: a, metrics: [bleu], dataset_uri: no.jsonl}]", "does not exist"),
        ("suites: [{name: a, metrics: [bleu], dataset_uri: 'ftp://h/x'}]", "ftp://"),
        ("suites: [{name: a, metrics: [bleu], dataset_uri: 's3://b/x.jsonl'}]", "s3_endpoint"),
        ("suites: [{name: a, metrics: [bleu], dataset_uri: 's3://b'}]", "s3://bucket/key"),
        ("suites: [{name: a, metrics: [bleu], dataset_uri: 'hf://owner'}]", "hf://owner/name"),
        ("suites: [{name: a, metrics: [bleu], dataset_uri: 'package:nope'}]", "packaged"),
        ("suites: [{name: a, metrics: [bleu], dataset_uri: 'file://host/x'}]", "host"),
        ("suites: [{name: a, metrics: [bleu], dataset_uri: attacks.jsonl}]", "no right answer"),
        (
            "suites: [{name: a, metrics: [logprob_accuracy], dataset_uri: qa.jsonl}]",
            "target",
        ),
        (
            "suites: [{name: a, metrics: [refusal_rate], dataset_uri: qa.jsonl, use_twins: true}]",
            "twin",
        ),
        (
            "suites: [{name: a, metrics: [refusal_rate], dataset_uri: attacks.jsonl,"
            " split: validation}]",
            "validation split",
        ),
        ("suites: [{name: a, metrics: [bleu], dataset_uri: qa.jsonl, limit: 0}]", "limit"),
    ],
)
def test_malformed_suites_say_in_one_line_what_to_do(folder: Path, text: str, says: str) -> None:
    with pytest.raises(InterpretOpsError) as caught:
        load_suites(write(folder, text))
    assert says in str(caught.value)
    assert "Fix: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_suite_is_named(folder: Path) -> None:
    with pytest.raises(InterpretOpsError, match="jailbreak_redteam_v1"):
        load_suites(folder / "suites.yaml", only=["nope"])


def test_hub_offline_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    import huggingface_hub

    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    path = write(
        folder, "suites: [{name: a, metrics: [bleu], dataset_uri: 'hf://owner/name/x.jsonl'}]"
    )
    with pytest.raises(InterpretOpsError, match="download the file") as caught:
        load_suites(path)
    assert "\n" not in str(caught.value)


def test_minimal_pairs_and_last_words_are_read_as_published(folder: Path) -> None:
    rows = [
        {"UID": "x", "sentence_good": "The dogs bark.", "sentence_bad": "The dogs barks."},
        {"context": "The capital of France is", "target": "Paris"},
    ]
    (folder / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    path = write(
        folder, "suites: [{name: a, metrics: [logprob_accuracy], dataset_uri: pairs.jsonl}]"
    )
    first, second = load_suites(path)[0].prompts
    assert (first.text, first.twin) == ("The dogs bark.", "The dogs barks.")
    assert (second.text, second.target) == ("The capital of France is", "Paris")


def test_packaged_suites_are_on_the_test_split_alone() -> None:
    loaded = load_suites("package:eval_suites")
    assert {"jailbreak_redteam_v1", "benign_regression_v1"} <= {s.suite.name for s in loaded}
    for suite in loaded:
        assert {prompt.split for prompt in suite.prompts} == {"test"}
        assert len({prompt.id for prompt in suite.prompts}) == len(suite.prompts)
