"""Running the arms: every answer is kept as it comes, so that stopped work goes on where it was."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from interpretops.evals.arms import BASELINE
from interpretops.evals.degeneration import answer_losses
from interpretops.evals.likelihoods import kl_to_base, likelihoods, prefers_right, texts_at_a_time
from interpretops.evals.sampling import spread
from interpretops.evals.suites import Metric
from interpretops.models import read_prompts, run_batched
from interpretops.steering import SteeringSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from interpretops.evals.arms import Arm
    from interpretops.evals.spec import EvalSpec
    from interpretops.evals.suites import LoadedSuite
    from interpretops.models import Batch, HookedModel, ReadPrompts, Step
    from interpretops.progress import Monitor
    from interpretops.prompts import Prompt, Redactor
    from interpretops.sae import Dictionary
    from interpretops.steering import Policy

    Say = Callable[..., None]
    """Reports the same step again, with live figures."""
    _Given = tuple[list[int], float | None]
    """An answer's tokens, and how likely the bare model finds them (see `Answer.loss`)."""


_OWN = 8  # of the bare model's answers per suite: what it finds plausible needs no more


class Answer(BaseModel):
    """What one arm did with one prompt.

    Attributes:
        arm: The arm's name.
        suite: The suite's name.
        id: The prompt's id.
        text: The answer, scrubbed; empty where the suite is only scored.
        fired: Whether the policy acted.
        figures: Likelihoods, where those are scored.
        loss: Mean negative log-likelihood of its tokens to the unsteered model, given the prompt, in
            nats; None where the answer is too short to tell, and for most of that model's own.
        redactions: What was scrubbed from the answer, by kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    arm: str
    suite: str
    id: str
    text: str = ""
    fired: bool = False
    figures: dict[str, float] = Field(default_factory=dict)
    loss: float | None = None
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

    def own_losses(self) -> list[float]:
        """How likely the bare model finds its own answers, where that was measured."""
        own = (a for a in self._found.values() if a.arm == BASELINE.name)
        return [answer.loss for answer in own if answer.loss is not None]

    def redactions(self) -> Counter[str]:
        """What was scrubbed from all answers, those of earlier runs too, by kind."""
        counts: Counter[str] = Counter()
        for answer in self._found.values():
            counts.update(answer.redactions)
        return counts

    def _take(self, answer: Answer) -> None:
        self._found[answer.arm, answer.suite, answer.id] = answer


@dataclass(frozen=True)
class _Chunk:
    """Prompts of a suite that are answered together.

    Attributes:
        loaded: The suite.
        prompts: Some of its prompts.
        read: The same, as the unsteered model read them.
    """

    loaded: LoadedSuite
    prompts: Sequence[Prompt]
    read: ReadPrompts

    def __len__(self) -> int:
        return len(self.prompts)

    def texts(self, rows: Sequence[int] | None = None) -> list[str]:
        """The text of every prompt, or of those in some rows."""
        chosen = self.prompts if rows is None else [self.prompts[row] for row in rows]
        return [prompt.text for prompt in chosen]


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

    def run(self, arms: Sequence[Arm], loaded: LoadedSuite, prompts: Sequence[Prompt]) -> None:
        """Answer (or score) what has no answer yet, chunk by chunk, each by all arms.

        Raises:
            Cancelled: When the monitor stops the work; the chunks before are kept.
        """
        suite = loaded.suite
        # Chunks are planned over all prompts, so that a resumed run batches as the first one did.
        order = sorted(prompts, key=lambda prompt: len(prompt.text))
        size = self.spec.batch_size
        if not suite.generates:
            size = texts_at_a_time(self.model, size)
        stage, total = f"evaluating {suite.name}", len(order) * len(arms)
        for start in range(0, len(order), size):
            chunk, done = order[start : start + size], start * len(arms)
            self.monitor.update(stage, done, total)
            if all((a.name, suite.name, p.id) in self.answers for a in arms for p in chunk):
                continue

            def after(answered: int, done: int = done) -> Say:
                return partial(self.monitor.update, stage, done + answered, total)

            work = partial(self._ask if suite.generates else self._score, arms, loaded, after)
            for answers in run_batched(chunk, work, len(chunk)):
                self.answers.add(answers)
        self.monitor.update(stage, total, total)

    def _ask(
        self,
        arms: Sequence[Arm],
        loaded: LoadedSuite,
        after: Callable[[int], Say],
        prompts: Sequence[Prompt],
    ) -> list[list[Answer]]:
        """What each arm answers to each prompt. The prompts are read once, for all of them."""
        sites = [site for arm in arms for site in arm.sites(self.model, self.dictionary)]
        read = read_prompts(
            self.model,
            self.model.encode([prompt.text for prompt in prompts], chat=loaded.suite.chat),
            again=max(1 if arm.policy is None else arm.policy.tail or 1 for arm in arms),
            sites=list(dict.fromkeys(sites)),
        )
        chunk = _Chunk(loaded, prompts, read)
        made: dict[str, list[Answer]] = {}
        for arm in arms:
            if arm.policy is None:
                made[arm.name] = self._unsteered(arm, chunk, after(len(made) * len(prompts)))
        if policies := {arm: arm.policy for arm in arms if arm.policy is not None}:
            own = made.get(BASELINE.name) or [
                self.answers[BASELINE.name, loaded.suite.name, prompt.id] for prompt in prompts
            ]
            say = after(len(made) * len(prompts))
            made |= self._steered(policies, chunk, own, say)
        return [list(answers) for answers in zip(*(made[a.name] for a in arms), strict=True)]

    def _unsteered(self, arm: Arm, chunk: _Chunk, say: Say) -> list[Answer]:
        """Answers of the bare model, or of the model under a system prompt."""
        asked: Batch | ReadPrompts = chunk.read
        if arm.system is not None:
            asked = self.model.encode(
                chunk.texts(), chat=chunk.loaded.suite.chat, system=arm.system
            )
        ids = self._collected(self.model.stream(asked, self._tokens(chunk)), len(chunk), say)
        weighed = ids
        if arm is BASELINE:  # some of its answers show what it finds plausible
            some = {prompt.id for prompt in spread(chunk.loaded.prompts.prompts, _OWN)}
            weighed = [x if p.id in some else [] for p, x in zip(chunk.prompts, ids, strict=True)]
        losses = answer_losses(chunk.read, weighed)
        given = dict(enumerate(zip(ids, losses, strict=True)))
        return list(self._made(arm, chunk, given, [0.0] * len(chunk)).values())

    def _steered(
        self, policies: Mapping[Arm, Policy], chunk: _Chunk, own: Sequence[Answer], say: Say
    ) -> dict[str, list[Answer]]:
        """Answers under policies, by arm; where one does not act they are the baseline's own.

        The model is then left as it is, so that answering anew would take the time again and show
        nothing but how rounding depends on what else is in a batch. All that do act are answered
        together, each row under its own policy.
        """
        acting: list[tuple[Arm, int, Policy]] = []
        for arm, policy in policies.items():
            with SteeringSession(self.model, policy, dictionary=self.dictionary) as session:
                record = session.decide(chunk.read)
            always = policy.unconditional()
            acting += [(arm, row, always) for row, seen in enumerate(record) if seen.fired]
        given: dict[Arm, dict[int, _Given]] = {arm: {} for arm in policies}
        for anew in (False, True):
            group = [(a, row, policy) for a, row, policy in acting if (policy.tail is None) == anew]
            steer = partial(self._answered, chunk, say, anew)
            found = run_batched(
                [(r, policy) for _, r, policy in group], steer, self.spec.batch_size
            )
            for (arm, row, _), answer in zip(group, found, strict=True):
                given[arm][row] = answer
        still = {"kl": 0.0} if Metric.KL_TO_BASE in chunk.loaded.suite.metrics else {}
        answers: dict[str, list[Answer]] = {}
        for arm, rows in given.items():
            moved = self._divergences(arm, chunk, {row: own[row].text for row in rows}, say)
            acted = self._made(arm, chunk, rows, moved, fired=True)
            update = {"arm": arm.name, "figures": still}
            answers[arm.name] = [
                acted.get(row) or answer.model_copy(update=update) for row, answer in enumerate(own)
            ]
        return answers

    def _answered(
        self, chunk: _Chunk, say: Say, anew: bool, part: Sequence[tuple[int, Policy]]
    ) -> list[_Given]:
        """What rows answer, each under its policy; one that acts before a prompt's tail reads it `anew`."""
        rows = [row for row, _ in part]
        said = chunk.read.rows(rows)
        asked: Batch | ReadPrompts = said
        if anew:
            asked = self.model.encode(chunk.texts(rows), chat=chunk.loaded.suite.chat)
        policies = [policy for _, policy in part]
        with SteeringSession(self.model, policies, dictionary=self.dictionary) as session:
            ids = self._collected(session.stream(asked, self._tokens(chunk)), len(part), say)
        return list(zip(ids, answer_losses(said, ids), strict=True))

    def _tokens(self, chunk: _Chunk) -> int:
        """Tokens per answer."""
        compared = {Metric.EXACT_MATCH, Metric.BLEU} & set(chunk.loaded.suite.metrics)
        return self.spec.max_new_tokens_qa if compared else self.spec.max_new_tokens

    def _collected(self, steps: Iterator[Step], rows: int, say: Say) -> list[list[int]]:
        """Token ids of each answer; every token is told of, for a chunk takes long on a CPU."""

        def told() -> Iterator[Step]:
            for number, step in enumerate(steps, 1):
                say(token=number)
                yield step

        return self.model.collect(told(), rows)

    def _made(
        self,
        arm: Arm,
        chunk: _Chunk,
        given: Mapping[int, _Given],
        divergences: Sequence[float],
        *,
        fired: bool = False,
    ) -> dict[int, Answer]:
        """The answers that were generated, scrubbed, by row."""
        suite = chunk.loaded.suite
        kept = Metric.KL_TO_BASE in suite.metrics
        found = {}
        for (row, (ids, loss)), kl in zip(given.items(), divergences, strict=True):
            text, redactions = self._scrubbed(self.model.text(ids))
            found[row] = Answer(
                arm=arm.name,
                suite=suite.name,
                id=chunk.prompts[row].id,
                text=text,
                fired=fired,
                figures={"kl": kl} if kept else {},
                loss=loss,
                redactions=redactions,
            )
        return found

    def _divergences(
        self, arm: Arm, chunk: _Chunk, own: Mapping[int, str], say: Say
    ) -> list[float]:
        """How far an arm's predictions are from the bare model's along its answers; 0 if not asked."""
        suite = chunk.loaded.suite
        if Metric.KL_TO_BASE not in suite.metrics:
            return [0.0] * len(own)

        def measure(rows: Sequence[int]) -> list[float]:
            say()
            return kl_to_base(
                self.model,
                chunk.texts(rows),
                [own[row] for row in rows],
                partial(arm.steering, self.model, self.dictionary),
                chat=suite.chat,
            )

        return run_batched(list(own), measure, texts_at_a_time(self.model, len(own)))

    def _score(
        self,
        arms: Sequence[Arm],
        loaded: LoadedSuite,
        after: Callable[[int], Say],
        chunk: Sequence[Prompt],
    ) -> list[list[Answer]]:
        """Likelihoods of given texts under each arm: no answer is generated."""
        made: list[list[Answer]] = []
        for arm in arms:
            after(len(made) * len(chunk))()
            made.append(self._scored(arm, loaded, chunk))
        return [list(answers) for answers in zip(*made, strict=True)]

    def _scored(self, arm: Arm, loaded: LoadedSuite, chunk: Sequence[Prompt]) -> list[Answer]:
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
