"""The packaged prompts keep what their README promises."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from importlib import resources
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
from interpretops.prompts import contrast_set, load_prompts
from interpretops.prompts.loading import packaged

if TYPE_CHECKING:
    from collections.abc import Iterator

SPLITS = ("train", "validation", "test")
FIELDS = {
    "jailbreak": {"id", "text", "twin", "category", "topic", "split"},
    "over_refusal": {"id", "text", "topic", "split"},
    "toxicity": {"id", "text", "twin", "topic", "split"},
    "benign_qa": {"id", "text", "answers", "topic", "split"},
    "benign_instructions": {"id", "text", "topic", "split"},
}
LEAST = {
    "jailbreak": 250,
    "wrappers": 20,
    "over_refusal": 120,
    "toxicity": 120,
    "benign_qa": 200,
    "benign_instructions": 160,
}
BY_TOPIC = sorted(FIELDS)


def records(name: str) -> list[dict[str, Any]]:
    text = (resources.files("interpretops.data") / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[\w']+", text.lower()))


def everything() -> list[tuple[str, str | None, str]]:
    """Where every text and twin comes from, its split, and the text."""
    return [
        (f"{name}/{record['id']}", record.get("split"), record[field])
        for name in FIELDS
        for record in records(name)
        for field in ("text", "twin")
        if field in record
    ]


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_records_have_exactly_their_fields_and_no_empty_text(name: str) -> None:
    for record in records(name):
        assert set(record) == FIELDS[name], record["id"]
        for field, value in record.items():
            texts = value if field == "answers" else [value]
            assert texts, record["id"]
            assert all(isinstance(text, str) and text == text.strip() != "" for text in texts)
        if "split" in record:
            assert record["split"] in SPLITS


@pytest.mark.parametrize("name", sorted(LEAST))
def test_there_are_as_many_as_stated(name: str) -> None:
    assert len(records(name)) >= LEAST[name]


@pytest.mark.parametrize("name", sorted(LEAST))
def test_ids_are_unique_and_every_file_loads_whole(name: str) -> None:
    raw = records(name)
    loaded = load_prompts(f"package:{name}", redact=None)
    assert [prompt.id for prompt in loaded] == [record["id"] for record in raw]
    assert len({record["id"] for record in raw}) == len(raw)
    assert name in packaged()


@pytest.mark.parametrize("name", BY_TOPIC)
def test_no_topic_is_in_two_splits_and_each_split_has_its_share(name: str) -> None:
    splits_of = defaultdict(set)
    for record in records(name):
        splits_of[record["topic"]].add(record["split"])
    assert {topic: found for topic, found in splits_of.items() if len(found) > 1} == {}
    share = Counter(record["split"] for record in records(name))
    total = share.total()
    assert 0.40 <= share["train"] / total <= 0.80
    assert 0.08 <= share["validation"] / total <= 0.28
    assert 0.08 <= share["test"] / total <= 0.42


@pytest.mark.parametrize(
    ("name", "texts", "topics"), [("jailbreak", 320, 80), ("over_refusal", 180, 25)]
)
def test_the_test_split_bears_an_interval(name: str, texts: int, topics: int) -> None:
    test = [record for record in records(name) if record["split"] == "test"]
    assert len(test) >= texts
    assert len({record["topic"] for record in test}) >= topics


def test_every_category_of_attacks_is_trained_and_tested_on_different_topics() -> None:
    splits_of = defaultdict(set)
    for record in records("jailbreak"):
        splits_of[record["category"]].add(record["split"])
    assert {name for name, found in splits_of.items() if not {"train", "test"} <= found} == set()


def test_no_wrapper_family_is_in_two_splits() -> None:
    wrappers = records("wrappers")
    splits_of = defaultdict(set)
    for wrapper in wrappers:
        assert wrapper["text"].count("{prompt}") == 1
        assert len(wrapper["text"].split()) < 60
        splits_of[wrapper["wrapper"]].add(wrapper.get("split"))
    assert all(len(found) == 1 for found in splits_of.values())
    assert set().union(*splits_of.values()) == {*SPLITS, None}
    assert [w["text"] for w in wrappers if w.get("split") is None] == ["{prompt}"]


@pytest.mark.parametrize("split", SPLITS)
def test_contrast_sets_can_be_built_from_each_split(split: Any) -> None:
    built = contrast_set(
        load_prompts("package:jailbreak", redact=None),
        load_prompts("package:wrappers", redact=None),
        split=split,
    )
    assert len(built) == sum(record["split"] == split for record in records("jailbreak"))
    assert all(prompt.twin not in (None, prompt.text) for prompt in built)


def test_no_text_occurs_twice_in_all_the_files() -> None:
    seen: dict[str, str] = {}
    for where, _, text in everything():
        key = " ".join(text.lower().split())
        assert key not in seen, f"{where} repeats {seen.get(key)}"
        seen[key] = where


def alike(bags: list[frozenset[str]], share: float = 0.8) -> Iterator[tuple[int, int]]:
    """Pairs whose words overlap (Jaccard) by more than `share`.

    Such a pair has one of each bag's rarest words in common, `share` saying how many there are to
    try, so only bags that meet there are compared.
    """
    often = Counter(word for bag in bags for word in bag)
    meeting = defaultdict(list)
    for place, bag in enumerate(bags):
        rarest = sorted(bag, key=lambda word: (often[word], word))
        for word in rarest[: len(bag) - int(share * len(bag))]:
            meeting[word].append(place)
    for a, b in {pair for places in meeting.values() for pair in combinations(places, 2)}:
        if len(bags[a] & bags[b]) > share * len(bags[a] | bags[b]):
            yield a, b


def test_alike_finds_what_comparing_every_pair_finds() -> None:
    bags = [words(record["text"]) for record in records("benign_qa")]
    bags += [words(record[field]) for record in records("toxicity") for field in ("text", "twin")]
    for share in (0.5, 0.8):
        compared = {
            (a, b)
            for a, b in combinations(range(len(bags)), 2)
            if len(bags[a] & bags[b]) > share * len(bags[a] | bags[b])
        }
        assert compared
        assert set(alike(bags, share)) == compared


def test_no_near_duplicates_across_splits() -> None:
    texts = [(where, split, words(text)) for where, split, text in everything() if split]
    near = [
        (texts[a][0], texts[b][0])
        for a, b in alike([bag for _, _, bag in texts])
        if texts[a][1] != texts[b][1]
    ]
    # two short questions on different words look alike: "What is the capital of"
    assert [pair for pair in near if not all(w.startswith("benign_qa/") for w in pair)] == []


@pytest.mark.parametrize("name", ["jailbreak", "toxicity"])
def test_twins_give_nothing_away_by_their_form(name: str) -> None:
    rows = records(name)
    lengths = [(len(row["text"].split()), len(row["twin"].split())) for row in rows]
    assert all(abs(a - b) <= 3 for a, b in lengths)
    assert abs(sum(a - b for a, b in lengths)) / len(rows) < 0.15
    if name == "jailbreak":
        first = sum(row["text"].split()[0] == row["twin"].split()[0] for row in rows)
        mark = sum(row["text"][-1] == row["twin"][-1] for row in rows)
        shared = [
            len(words(row["text"]) & words(row["twin"]))
            / len(words(row["text"]) | words(row["twin"]))
            for row in rows
        ]
        assert first / len(rows) > 0.95
        assert mark / len(rows) > 0.95
        assert sum(shared) / len(shared) > 0.5


def test_prompts_are_short() -> None:
    lengths = [len(record["text"].split()) for record in records("jailbreak")]
    assert min(lengths) >= 5
    assert max(lengths) <= 43


def test_answers_are_lower_case_for_matching() -> None:
    for record in records("benign_qa"):
        assert all(answer == answer.lower() for answer in record["answers"])
        assert len(set(record["answers"])) == len(record["answers"])
