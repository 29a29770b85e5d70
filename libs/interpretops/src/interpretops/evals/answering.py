"""Running the arms: every answer is kept as it comes, so that stopped work goes on where it was."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from interpretops.evals.arms import BASELINE
from interpretops.evals.likelihoods import kl_to_base, likelihoods, prefers_right, texts_at_a_time
from interpretops.evals.suites import Metric
from interpretops.models import run_batched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from interpretops.evals.arms import Arm
    from interpretops.evals.spec import EvalSpec
    from interpretops.evals.suites import LoadedSuite
    from interpretops.models import HookedModel, Step
    from interpretops.progress import Monitor
    from interpretops.prompts import Prompt, Redactor
    from interpretops.sae import Dictionary

    Say = Callable[..., None]
    """Reports the same step again, with live figures."""


class Answer(BaseModel):
    """What one arm did with one prompt.

    Attributes:
        arm: The arm's name.
        suite: The suite's name.
        id: The prompt's id.
        text: The answer, scrubbed; empty where the suite is only scored.
        fired: Whether the policy acted.
        figures: Likelihoods, where those are scored.
        redactions: What was scrubbed from the answer, by kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    arm: str
    suite: str
    id: str
    text: str = ""
    fired: bool = False
    figures: dict[str, float] = Field(default_factory=dict)
    redactions: dict[str, int] = Field(default_factory=dict)


class Answers:
    """Answers by arm, suite and prompt id, in memory and in a log that outlives an interruption.

    Args:
        log: The file; what an earlier run left in it is taken over. A line that was cut off by a
            crash is left out.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._found: dict[tuple[str, str, str], Answer] = {}
        if not log.exists():
            return
        whole: list[str] = []
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                answer = Answer.model_validate_json(line)
            except ValueError:
                continue
            self._take(answer)
            whole.append(line)
        log.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")

    def __contains__(self, key: tuple[str, str, str]) -> bool:
        return key in self._found

    def __getitem__(self, key: tuple[str, str, str]) -> Answer:
        return self._found[key]

    def add(self, answers: Sequence[Answer]) -> None:
        """Keep answers, on disk first."""
        with self._log.open("a", encoding="utf-8") as file:
            file.write("".join(f"{answer.model_dump_json()}\n" for answer in answers))
            file.flush()
        for answer in answers:
            self._take(answer)

    def redactions(self) -> Counter[str]:
        """What was scrubbed from all answers, those of earlier runs too, by kind."""
        counts: Counter[str] = Counter()
        for answer in self._found.values():
            counts.update(answer.redactions)
        return counts

    def _take(self, answer: Answer) -> None:
        self._found[answer.arm, answer.suite, answer.id] = answer


@dataclass(frozen=True)
class Answering:
    """Puts prompts to arms.

    Attributes:
        model: The model, unsteered.
        spec: How many tokens and prompts at a time.
        dictionary: The dictionary whose features a policy names.
        redact: Scrubs answers before they are written.
        answers: Where they are kept.
        monitor: Hears of every chunk and token, and may stop the work.
    """

    model: HookedModel
    spec: EvalSpec
    dictionary: Dictionary | None
    redact: Redactor | None
    answers: Answers
    monitor: Monitor

    def run(self, arm: Arm, loaded: LoadedSuite, prompts: Sequence[Prompt]) -> None:
        """Answer (or score) what has no answer yet, chunk by chunk.

        Raises:
            Cancelled: When the monitor stops the work; the chunks before are kept.
        """
        suite = loaded.suite
        stage = f"evaluating {suite.name}, {arm.name.replace('_', ' ')}"
        # Chunks are planned over all prompts, so that a resumed run batches as the first one did.
        order = sorted(prompts, key=lambda prompt: len(prompt.text))
        size = self.spec.batch_size
        if not suite.generates:
            size = texts_at_a_time(self.model, size)
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            self.monitor.update(stage, start, len(order))
            if all((arm.name, suite.name, prompt.id) in self.answers for prompt in chunk):
                continue
            work = partial(self._score, arm, loaded)
            if suite.generates:
                say = partial(self.monitor.update, stage, start, len(order))
                work = partial(self._generate, arm, loaded, say)
            self.answers.add(run_batched(chunk, work, len(chunk)))
        self.monitor.update(stage, len(order), len(order))

    def _generate(
        self, arm: Arm, loaded: LoadedSuite, say: Say, chunk: Sequence[Prompt]
    ) -> list[Answer]:
        """Answers to a chunk. Where a policy does not act they are the baseline's own.

        The model is then left as it is, so that answering anew would take the time again and show
        nothing but how rounding depends on what else is in a batch.
        """
        untouched = self._untouched(arm, loaded, chunk)
        asked = [prompt for prompt in chunk if prompt.id not in untouched]
        found = {answer.id: answer for answer in self._asked(arm, loaded, say, asked)}
        return [found[p.id] if p.id in found else untouched[p.id] for p in chunk]

    def _untouched(
        self, arm: Arm, loaded: LoadedSuite, chunk: Sequence[Prompt]
    ) -> dict[str, Answer]:
        """The baseline's answers to those prompts that the arm's condition lets pass, by prompt."""
        if arm.policy is None or arm.policy.condition is None:
            return {}
        suite = loaded.suite
        batch = self.model.encode([p.text for p in chunk], chat=suite.chat, system=arm.system)
        with arm.steering(self.model, self.dictionary) as session:
            assert session is not None
            records = session.decide(batch)
        still = {"kl": 0.0} if Metric.KL_TO_BASE in suite.metrics else {}
        return {
            prompt.id: self.answers[BASELINE.name, suite.name, prompt.id].model_copy(
                update={"arm": arm.name, "figures": still}
            )
            for prompt, record in zip(chunk, records, strict=True)
            if not record.fired
        }

    def _asked(
        self, arm: Arm, loaded: LoadedSuite, say: Say, chunk: Sequence[Prompt]
    ) -> list[Answer]:
        """Answers that are generated."""
        if not chunk:
            return []
        suite = loaded.suite
        compared = {Metric.EXACT_MATCH, Metric.BLEU} & set(suite.metrics)
        tokens = self.spec.max_new_tokens_qa if compared else self.spec.max_new_tokens
        batch = self.model.encode([p.text for p in chunk], chat=suite.chat, system=arm.system)
        with arm.steering(self.model, self.dictionary) as session:
            ids = self.model.collect(_said(self.model.stream(batch, tokens), say), len(batch))
            fired = [r.fired for r in session.record] if session else [False] * len(chunk)
        figures: list[dict[str, float]] = [{} for _ in chunk]
        if Metric.KL_TO_BASE in suite.metrics:
            figures = [{"kl": value} for value in self._divergences(arm, loaded, say, chunk)]
        found = []
        for prompt, answer, acted, measured in zip(chunk, ids, fired, figures, strict=True):
            text, redactions = self._scrubbed(self.model.text(answer))
            found.append(
                Answer(
                    arm=arm.name,
                    suite=suite.name,
                    id=prompt.id,
                    text=text,
                    fired=acted,
                    figures=measured,
                    redactions=redactions,
                )
            )
        return found

    def _divergences(
        self, arm: Arm, loaded: LoadedSuite, say: Say, chunk: Sequence[Prompt]
    ) -> list[float]:
        """Divergence from the bare model; none where nothing steers."""
        if arm.policy is None:
            return [0.0] * len(chunk)

        def measure(part: Sequence[Prompt]) -> list[float]:
            say()
            return kl_to_base(
                self.model,
                [prompt.text for prompt in part],
                [self.answers["baseline", loaded.suite.name, prompt.id].text for prompt in part],
                partial(arm.steering, self.model, self.dictionary),
                chat=loaded.suite.chat,
            )

        return run_batched(chunk, measure, texts_at_a_time(self.model, len(chunk)))

    def _score(self, arm: Arm, loaded: LoadedSuite, chunk: Sequence[Prompt]) -> list[Answer]:
        """Likelihoods of given texts: no answer is generated."""
        suite = loaded.suite
        figures: list[dict[str, float]] = [{} for _ in chunk]
        with arm.steering(self.model, self.dictionary):
            if Metric.PERPLEXITY in suite.metrics:
                texts = [prompt.text for prompt in chunk]
                found = likelihoods(self.model, texts, None, chat=False)
                for row, text in enumerate(found):
                    figures[row] |= {"loss": text.loss, "tokens": float(text.tokens)}
            if Metric.LOGPROB_ACCURACY in suite.metrics:
                for row, right in enumerate(prefers_right(self.model, chunk, chat=suite.chat)):
                    figures[row] |= {"right": float(right)}
        return [
            Answer(arm=arm.name, suite=suite.name, id=prompt.id, figures=found)
            for prompt, found in zip(chunk, figures, strict=True)
        ]

    def _scrubbed(self, text: str) -> tuple[str, dict[str, int]]:
        return (text, {}) if self.redact is None else self.redact.scrub(text)


def _said(steps: Iterator[Step], say: Say) -> Iterator[Step]:
    """Report every token of a chunk's answers as it comes: a chunk takes long on a CPU."""
    for number, step in enumerate(steps, 1):
        say(token=number)
        yield step
