"""Fit the refusal classifier, and measure both judges on human labels.

    python -m interpretops.evals.judges.calibration --data FOLDER

writes the classifier and the two judge cards that the package ships. The data are public and not
shipped: `judge/refusal_human_labels.jsonl` (columns model, completion, label) from XSTest, and
`toxicity/` with the four sets named on the card.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from interpretops.evals.judges.card import JudgeCard, Measured
from interpretops.evals.judges.refusal import (
    OPENING_CHARACTERS,
    RefusalJudge,
    features,
    normalised,
    probability,
    rule,
)
from interpretops.evals.judges.toxicity import THRESHOLD, ToxicityJudge
from interpretops.evals.statistics import Estimate, bootstrap

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent / "data"
MIN_COUNT = 3
_XSTEST = "CC BY 4.0, Roettger et al. 2024, XSTest (paul-rottger/exaggerated-safety)"


def main() -> None:
    """Run the calibration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder with judge/ and toxicity/")
    data: Path = parser.parse_args().data
    HERE.mkdir(exist_ok=True)
    _write("refusal_card", _refusal(data / "judge" / "refusal_human_labels.jsonl"))
    _write("toxicity_card", _toxicity(data / "toxicity"))


def _write(name: str, card: JudgeCard) -> None:
    text = card.model_dump_json(indent=1)
    (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    for measured in card.measured:
        print(name, measured.data)
        for figure, estimate in measured.figures.items():
            print(
                f"  {figure:28s} {estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}] "
                f"n={estimate.n}"
            )


# --- refusal --------------------------------------------------------------------------------------


def _refusal(path: Path) -> JudgeCard:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    # One row per distinct opening: the same stock refusal a hundred times is one observation.
    distinct: dict[str, Any] = {}
    for row in rows:
        distinct.setdefault(normalised(row["completion"]), row)
    held_out = {opening for opening in distinct if _in_second_half(opening)}
    sure = {o: r for o, r in distinct.items() if not r["label"].startswith("3")}
    fitting = [(o, r["label"].startswith("2")) for o, r in sure.items() if o not in held_out]
    intercept, weights = _fit([o for o, _ in fitting], [label for _, label in fitting])
    stored = {"intercept": intercept, "weights": weights}
    (HERE / "refusal_classifier.json").write_text(
        json.dumps(stored, indent=0, sort_keys=True) + "\n", encoding="utf-8"
    )

    test = [(r["completion"], r["label"].startswith("2")) for o, r in sure.items() if o in held_out]
    texts = [text for text, _ in test]
    labels = np.array([label for _, label in test])
    found = np.array(RefusalJudge().judge(texts))
    silent = np.array([rule(normalised(text)) is None for text in texts])
    scores = [probability(normalised(text), intercept, weights) > 0.5 for text in texts]
    partial = [
        r["completion"] for o, r in distinct.items() if o in held_out and r["label"].startswith("3")
    ]
    figures = {
        **_errors(labels, found),
        "rule_decides": bootstrap(~silent),
        "accuracy_where_rule_decides": bootstrap((found == labels)[~silent]),
        "classifier_alone_accuracy": bootstrap(np.array(scores) == labels),
        "partial_refusals_called_refusal": bootstrap(RefusalJudge().judge(partial)),
    }
    return JudgeCard(
        name="refusal",
        question="Does the answer refuse?",
        method=f"a rule on the first {OPENING_CHARACTERS} characters, and where it is silent a "
        f"logistic regression on {len(weights)} words and word pairs",
        measured=(
            Measured(
                data="XSTest model completions, human labels, held-out half by distinct opening",
                licence=_XSTEST,
                figures=figures,
                note="full refusal against full compliance; partial refusals apart. Completions of "
                "Llama 2, Mistral and GPT-4; the other half fitted the classifier",
            ),
        ),
        limits="English only. It says whether an answer declines, not whether a complying answer "
        "is useful to an attacker. Labelled answers are by other models than the one under test.",
    )


def _fit(openings: Sequence[str], labels: Sequence[bool]) -> tuple[float, dict[str, float]]:
    vectorizer = DictVectorizer()
    table = vectorizer.fit_transform([features(opening) for opening in openings])
    common = np.asarray((table > 0).sum(axis=0)).ravel() >= MIN_COUNT
    model = LogisticRegression(C=1.0, max_iter=2000).fit(table[:, common], labels)
    names = vectorizer.get_feature_names_out()[common]
    weights = {
        str(name): round(float(weight), 4)
        for name, weight in zip(names, model.coef_[0], strict=True)
        if abs(weight) >= 0.01
    }
    return round(float(model.intercept_[0]), 4), weights


def _in_second_half(text: str) -> bool:
    return hashlib.sha256(text.encode()).digest()[0] >= 128


# --- toxicity -------------------------------------------------------------------------------------


def _toxicity(folder: Path) -> JudgeCard:
    def table(name: str) -> list[dict[str, str]]:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    wiki = [(r["comment"], r["toxic"] == "True") for r in table("wiki_toxicity_test.csv")]
    davidson = [
        (re.sub(r"@\w+", "", r["tweet"]), r["class"] != "2")
        for r in table("davidson_labeled_data.csv")
    ]
    hatecheck = [
        (r["test_case"], r["label_gold"] == "hateful") for r in table("hatecheck_cases.csv")
    ]
    moderation = []
    for line in (folder / "openai_moderation_1680.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        known = [row[key] for key in ("H", "HR", "V", "H2", "V2") if row.get(key) is not None]
        if known:
            moderation.append((row["prompt"], any(known)))
    return JudgeCard(
        name="toxicity",
        question="Is the text toxic?",
        method=f"alt-profanity-check (MIT): linear model on words, score >= {THRESHOLD}",
        measured=(
            _scored(
                wiki,
                "Wikipedia talk comments (Jigsaw), test",
                "comments CC BY-SA 3.0, labels CC0",
                "the classifier's own training set also drew on Jigsaw comments, so this one "
                "flatters it",
            ),
            _scored(
                davidson,
                "Davidson et al. 2017 tweets",
                "MIT",
                "hate speech or offensive against neither; handles removed. The classifier's "
                "training set drew on these tweets, so this one flatters it",
            ),
            _scored(
                hatecheck,
                "HateCheck functional tests",
                "CC BY 4.0, Roettger et al. 2021",
                "hateful against not hateful, made to break classifiers that go by words",
            ),
            _scored(
                moderation,
                "OpenAI moderation evaluation set",
                "MIT",
                "hate, threatening hate, harassment or violence against none of those, where "
                "labelled",
            ),
        ),
        limits="It goes by words: it finds insults and profanity, not hate or threats that are "
        "politely worded, and it flags harmless mentions of loaded words. English only.",
    )


def _scored(rows: Sequence[tuple[str, bool]], data: str, licence: str, note: str) -> Measured:
    scores = np.array(ToxicityJudge().score([text for text, _ in rows]))
    labels = np.array([label for _, label in rows])
    figures = {**_errors(labels, scores >= THRESHOLD), "auroc": _auroc(labels, scores)}
    return Measured(data=data, licence=licence, figures=figures, note=note)


# --- figures --------------------------------------------------------------------------------------


def _errors(labels: np.ndarray, found: np.ndarray) -> dict[str, Estimate]:
    return {
        "accuracy": bootstrap(labels == found),
        "recall": bootstrap(found[labels]),
        "false_positive_rate": bootstrap(found[~labels]),
    }


def _auroc(labels: np.ndarray, scores: np.ndarray, resamples: int = 200) -> Estimate:
    """AUROC; the Bayesian bootstrap's weights enter as sample weights."""
    rng = np.random.default_rng(0)
    values = [
        roc_auc_score(labels, scores, sample_weight=rng.exponential(size=len(labels)))
        for _ in range(resamples)
    ]
    low, high = np.quantile(values, [0.025, 0.975])
    value = float(roc_auc_score(labels, scores))
    return Estimate(value=value, low=float(low), high=float(high), n=len(labels))


if __name__ == "__main__":
    main()
