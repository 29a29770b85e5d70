"""What a verb works with: the engine in this process, or a platform elsewhere, behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from interpretops.artifacts import ArtifactStore, Manifest
    from interpretops.circuits import Circuit, ContrastTask, SearchSpec
    from interpretops.config import Config
    from interpretops.drift.circuits import CircuitComparison
    from interpretops.evals import EvalSpec, RiskCardArtifact
    from interpretops.models import HookedModel
    from interpretops.progress import Monitor
    from interpretops.prompts import PromptSet, Redactor
    from interpretops.reports import ReportArtifact, ReportSpec
    from interpretops.sae import Dictionary, DictionarySpec
    from interpretops.steering import Policy, PolicyArtifact, ProposeSpec
    from interpretops.tracing import TraceSpec


@dataclass(frozen=True)
class Connection:
    """A platform, who calls, and where people look at it, if that is known."""

    api: str
    key: str | None = field(repr=False)
    dashboard: str | None = None


@dataclass(frozen=True)
class BothAnswers:
    """A prompt answered with and without a policy.

    Attributes:
        policy: The policy's id.
        score: Of its condition, where it has one.
        threshold: What the score is compared with.
    """

    policy: str
    plain: str
    steered: str
    fired: bool
    score: float | None
    threshold: float | None


class Workbench(ABC):
    """The settings, the artifacts, and the steps of the work, wherever they are done.

    Attributes:
        connection: The platform that the command line named, if it named one.
        config: The settings.
    """

    connection: ClassVar[Connection | None] = None

    def __init__(self, config: Config) -> None:
        self.config = config

    @staticmethod
    def open(config: Path | None) -> Workbench:
        """The workbench that the command line asks for.

        Raises:
            InterpretOpsError: When the settings or the address are wrong.
        """
        from interpretops.config import load_config

        settings = load_config(config)
        if Workbench.connection is None:
            return LocalBench(settings)
        from interpretops.cli.remote import RemoteBench

        return RemoteBench(settings, Workbench.connection)

    @cached_property
    def redactor(self) -> Redactor | None:
        """What scrubs personal information, where the settings ask for it."""
        from interpretops.prompts import Redactor

        return Redactor() if self.config.compliance.pii_redaction else None

    @property
    @abstractmethod
    def store(self) -> ArtifactStore:
        """The artifacts."""

    @property
    @abstractmethod
    def n_layers(self) -> int:
        """How many layers the model of the settings has."""

    @abstractmethod
    def describe(self) -> str:
        """The model, and where the work is done."""

    @abstractmethod
    def trace(self, prompts: PromptSet, spec: TraceSpec, monitor: Monitor) -> Manifest:
        """Record activations on prompts; see `interpretops.tracing.trace`."""

    @abstractmethod
    def train_dictionary(
        self, source: str | PromptSet, spec: DictionarySpec, monitor: Monitor
    ) -> Manifest:
        """Train on a trace (by its reference) or on prompts; see `interpretops.sae`."""

    @abstractmethod
    def search(
        self, task: ContrastTask, spec: SearchSpec, dictionary: str | None, monitor: Monitor
    ) -> Circuit:
        """Find the circuit behind a behaviour; see `interpretops.circuits.search`."""

    @abstractmethod
    def compare_circuits(self, base: str, other: str) -> CircuitComparison:
        """Compare two circuits of one behaviour; see `interpretops.drift.circuits`."""

    @abstractmethod
    def import_graph(self, content: bytes) -> Manifest:
        """Keep an attribution graph as a circuit; see `interpretops.circuits.importing`."""

    @abstractmethod
    def propose_policy(
        self, circuit: str, dictionary: str | None, spec: ProposeSpec, monitor: Monitor
    ) -> PolicyArtifact:
        """Fit a policy to the packaged prompts; see `interpretops.steering.propose_policy`."""

    @abstractmethod
    def evaluate(
        self,
        policy: str,
        spec: EvalSpec,
        monitor: Monitor,
        *,
        suites: str,
        only: Sequence[str] = (),
        circuit: str | None = None,
        sae: str | None = None,
    ) -> RiskCardArtifact:
        """Measure a policy (a file, a folder or an id); see `interpretops.evals.evaluate`."""

    @abstractmethod
    def write_report(self, card: str, spec: ReportSpec, monitor: Monitor) -> ReportArtifact:
        """Write the audit report of a Risk Card; see `interpretops.reports`."""

    @abstractmethod
    def answers(
        self,
        policy: str,
        prompts: Sequence[str],
        max_new_tokens: int,
        temperature: float,
        seed: int | None,
        *,
        sae: str | None = None,
    ) -> Iterator[BothAnswers]:
        """Answer prompts with and without a policy, in order.

        Raises:
            InterpretOpsError: When the policy or an argument is wrong.
        """

    @abstractmethod
    def check_policy(self, policy: str, *, sae: str | None, schema_only: bool) -> str:
        """Check a policy, against the model too unless only the schema is asked for.

        Returns:
            Its id.

        Raises:
            InterpretOpsError: When it is wrong.
        """

    @abstractmethod
    def explain_policy(self, policy: str, *, sae: str | None) -> Sequence[str]:
        """What a policy does, in sentences."""

    def store_to_verify(self) -> ArtifactStore:
        """The artifacts, read where they are kept and not from a copy."""
        return self.store


class LocalBench(Workbench):
    """The engine, in this process."""

    @staticmethod
    def open_for(verb: str, config: Path | None) -> LocalBench:
        """The engine for a verb that no platform offers.

        Raises:
            InterpretOpsError: When a platform was named.
        """
        from interpretops.errors import InterpretOpsError

        bench = Workbench.open(config)
        if not isinstance(bench, LocalBench):
            raise InterpretOpsError(
                f"a platform cannot do `mechctl {verb}`; it runs in this process alone",
                fix="leave out --api (and unset INTERPRETOPS_API)",
            )
        return bench

    @property
    def redacted(self) -> tuple[str, ...] | None:
        """The kinds of personal information it looks for, for the record of what is made."""
        return None if self.redactor is None else tuple(k.value for k in self.redactor.kinds)

    @cached_property
    def store(self) -> ArtifactStore:
        """The artifact store below `cache.dir`."""
        from interpretops.artifacts import ArtifactStore

        return ArtifactStore(self.config.cache.dir)

    @cached_property
    def model(self) -> HookedModel:
        """The model of the settings, loaded on first use."""
        from interpretops.cli.console import err

        with err.status(f"loading {self.config.model.name}"):
            from interpretops.models import HookedModel

            return HookedModel(
                self.config.model.name,
                dtype=self.config.model.dtype,
                device=self.config.model.device,
                cache_dir=self.config.cache.dir,
            )

    @property
    def n_layers(self) -> int:
        """How many layers the model has."""
        return self.model.n_layers

    def describe(self) -> str:
        """The model, and the device it runs on."""
        model = self.model
        return (
            f"[bold]{model.name}[/]  {model.n_layers} layers, {model.n_heads} heads, on "
            f"{model.device}; artifacts in {self.config.cache.dir}"
        )

    def trace(self, prompts: PromptSet, spec: TraceSpec, monitor: Monitor) -> Manifest:
        """Trace with the engine."""
        from interpretops import tracing

        made = tracing.trace(self.model, prompts, spec, store=self.store, monitor=monitor)
        return made.manifest

    def train_dictionary(
        self, source: str | PromptSet, spec: DictionarySpec, monitor: Monitor
    ) -> Manifest:
        """Train with the engine."""
        from interpretops.sae import train_dictionary
        from interpretops.tracing import Trace

        found = Trace.open(self.store, source) if isinstance(source, str) else source
        made = train_dictionary(self.model, found, spec, store=self.store, monitor=monitor)
        return made.manifest

    def search(
        self, task: ContrastTask, spec: SearchSpec, dictionary: str | None, monitor: Monitor
    ) -> Circuit:
        """Search with the engine."""
        from interpretops.circuits import search

        return search(
            self.model,
            task,
            spec,
            dictionary=self._dictionary(dictionary),
            redacted=self.redacted,
            store=self.store,
            monitor=monitor,
        )

    def compare_circuits(self, base: str, other: str) -> CircuitComparison:
        """Compare with the engine."""
        from interpretops.circuits import Circuit
        from interpretops.drift.circuits import compare_circuits

        return compare_circuits(*(Circuit.open(self.store, ref) for ref in (base, other)))

    def import_graph(self, content: bytes) -> Manifest:
        """Keep it here."""
        from interpretops.circuits.importing import import_graph

        return import_graph(content, store=self.store, redactor=self.redactor)

    def propose_policy(
        self, circuit: str, dictionary: str | None, spec: ProposeSpec, monitor: Monitor
    ) -> PolicyArtifact:
        """Fit with the engine."""
        from interpretops.circuits import Circuit
        from interpretops.demo import DemoData
        from interpretops.steering import propose_policy

        return propose_policy(
            self.model,
            Circuit.open(self.store, circuit),
            DemoData(self.redactor).fitting(spec.target_class),
            spec,
            dictionary=self._dictionary(dictionary),
            redacted=self.redacted,
            store=self.store,
            monitor=monitor,
        )

    def evaluate(
        self,
        policy: str,
        spec: EvalSpec,
        monitor: Monitor,
        *,
        suites: str,
        only: Sequence[str] = (),
        circuit: str | None = None,
        sae: str | None = None,
    ) -> RiskCardArtifact:
        """Measure with the engine."""
        from interpretops.artifacts.store import MANIFEST
        from interpretops.circuits import Circuit
        from interpretops.demo import DemoData
        from interpretops.evals import evaluate, load_suites
        from interpretops.prompts import contrast_set

        if (Path(policy) / MANIFEST).is_file():
            policy = self.store.get(policy).id  # exported, it is the artifact, with its lineage
        loaded, dictionary = self.open_policy(policy, sae)
        circuit = circuit or loaded.meta.circuit
        data = DemoData(self.redactor)
        return evaluate(
            self.model,
            loaded,
            load_suites(suites, only=only, redact=self.redactor),
            spec,
            circuit=None if circuit is None else Circuit.open(self.store, circuit),
            dictionary=dictionary,
            contrast=contrast_set(data.attacks, data.wrappers, split="train"),
            parents=[policy] if policy.startswith("pol_") else [],
            redact=self.redactor,
            store=self.store,
            monitor=monitor,
        )

    def write_report(self, card: str, spec: ReportSpec, monitor: Monitor) -> ReportArtifact:
        """Write with the engine."""
        from interpretops.reports import write_report

        return write_report(card, spec, store=self.store, monitor=monitor)

    def answers(
        self,
        policy: str,
        prompts: Sequence[str],
        max_new_tokens: int,
        temperature: float,
        seed: int | None,
        *,
        sae: str | None = None,
    ) -> Iterator[BothAnswers]:
        """Answer with the engine, one prompt after another."""
        from interpretops.cli.validate import checked
        from interpretops.models import Sampling
        from interpretops.steering import SteeringSession

        sampling = checked(Sampling, temperature=temperature, seed=seed)
        loaded, dictionary = self.open_policy(policy, sae)
        threshold = None if loaded.condition is None else loaded.condition.threshold
        for text in prompts:
            plain = self.model.generate(text, max_new_tokens, sampling=sampling)
            with SteeringSession(self.model, loaded, dictionary=dictionary) as session:
                steered = session.generate(text, max_new_tokens, sampling=sampling)
                record = session.record[0]
            yield BothAnswers(loaded.meta.id, plain, steered, record.fired, record.score, threshold)

    def check_policy(self, policy: str, *, sae: str | None, schema_only: bool) -> str:
        """Check with the engine."""
        from interpretops.steering import SteeringSession

        loaded, dictionary = self.open_policy(policy, sae)
        if not schema_only:
            SteeringSession(self.model, loaded, dictionary=dictionary)
        return loaded.meta.id

    def explain_policy(self, policy: str, *, sae: str | None) -> Sequence[str]:
        """Explain with the engine."""
        from interpretops.steering.explain import explain

        return list(explain(*self.open_policy(policy, sae)))

    def open_policy(self, ref: str, sae: str | None) -> tuple[Policy, Dictionary | None]:
        """A policy and the dictionary it names.

        Raises:
            InterpretOpsError: When either is missing or wrong.
        """
        from interpretops.steering import load_policy

        path = Path(ref)
        loaded = load_policy(path if path.exists() else ref, store=self.store)
        return loaded, self._dictionary(sae or loaded.meta.dictionary)

    def _dictionary(self, ref: str | None) -> Dictionary | None:
        from interpretops.sae import Dictionary

        return None if ref is None else Dictionary.open(self.store, ref)
