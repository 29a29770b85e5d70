"""The platform as a workbench: jobs are submitted and followed, artifacts fetched when read."""

from __future__ import annotations

import hashlib
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from interpretops.artifacts import ArtifactStore, Handle, Manifest
from interpretops.artifacts.manifest import canonical_json
from interpretops.artifacts.store import MANIFEST
from interpretops.cli.bench import BothAnswers, Workbench
from interpretops.client import ApiError, Client, JobState
from interpretops.client.transport import plain
from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import NoReturn

    from interpretops.circuits import Circuit, ContrastTask, SearchSpec
    from interpretops.cli.bench import Connection
    from interpretops.client import Job, PolicyVersion
    from interpretops.config import Config
    from interpretops.drift.circuits import CircuitComparison
    from interpretops.evals import EvalSpec, RiskCardArtifact
    from interpretops.progress import Monitor
    from interpretops.prompts import PromptSet
    from interpretops.reports import ReportArtifact, ReportSpec
    from interpretops.sae import DictionarySpec
    from interpretops.steering import PolicyArtifact, ProposeSpec
    from interpretops.tracing import TraceSpec

HandleT = TypeVar("HandleT", bound=Handle)
_LONGEST_PATIENCE = 20
"""Of one piece of work, how many jobs that came to nothing are passed over."""

_CONTRAST = {"uri": "package:jailbreak", "wrappers_uri": "package:wrappers", "split": "train"}
"""What the difference-in-means comparison is fitted to, as in this process."""


class PlatformObjects:
    """Artifacts of a platform as the objects that `ArtifactStore` reads; copies are kept in a folder.

    Args:
        client: The platform.
        folder: Where copies are kept.
    """

    def __init__(self, client: Client, folder: Path) -> None:
        self.client = client
        self._folder = folder

    def get_bytes(self, key: str) -> bytes:
        """A file's bytes.

        Raises:
            FileNotFoundError: When there is no such artifact.
        """
        return self.local_path(key).read_bytes() if _file(key) != MANIFEST else self._manifest(key)

    def local_path(self, key: str) -> Path:
        """A copy of a file here, fetched first."""
        path = self._folder / key
        if path.is_file():
            return path
        artifact = key.split("/")[1]
        if _file(key) == MANIFEST:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._manifest(key))
            # Whoever asks for the place of the manifest reads its neighbours.
            for file in self.client.artifacts.get(artifact).files:
                self.local_path(f"artifacts/{artifact}/{file.path}")
        else:
            self.client.artifacts.download(artifact, _file(key), path)
        return path

    def list(self, prefix: str) -> Iterator[str]:
        """Keys of the manifests of all artifacts, oldest first."""
        ids = sorted(artifact.id for artifact in self.client.artifacts.list())
        for key in (f"artifacts/{each}/{MANIFEST}" for each in ids):
            if key.startswith(prefix):
                yield key

    def put_file(self, key: str, source: Path) -> None:  # noqa: ARG002
        """Refuse."""
        _refuse(key)

    def put_bytes(self, key: str, data: bytes) -> None:  # noqa: ARG002
        """Refuse."""
        _refuse(key)

    def delete(self, prefix: str) -> None:  # noqa: ARG002
        """Refuse."""
        raise InterpretOpsError(
            "a platform removes artifacts by itself, when compliance.retention_days are over",
            fix="leave out --api to remove artifacts of this machine",
        )

    def _manifest(self, key: str) -> bytes:
        try:
            details = self.client.artifacts.get(key.split("/")[1])
        except ApiError as error:
            if error.status in (404, 422):  # 422: it does not even look like an id
                raise FileNotFoundError(key) from error
            raise
        return Manifest.model_validate(details.manifest).model_dump_json(indent=2).encode()


class RemoteBench(Workbench):
    """A platform.

    The model is that of the settings here, so that a command means the same with and without a
    platform. Work is submitted under a key made of what is asked for: to ask again is to find it.

    Args:
        config: The settings.
        connection: Where the platform is, and who calls.

    Attributes:
        client: What speaks to it.
    """

    def __init__(self, config: Config, connection: Connection) -> None:
        super().__init__(config)
        self.client = Client(connection.api, connection.key)

    @staticmethod
    def open_for(what: str, example: str, config: Path | None) -> RemoteBench:
        """The platform, for what only a platform does.

        Args:
            what: That, as a clause.
            example: A command line that does it.
            config: Of the command line.

        Raises:
            InterpretOpsError: When the command line names none.
        """
        bench = Workbench.open(config)
        if not isinstance(bench, RemoteBench):
            raise InterpretOpsError(
                f"{what} on a platform, and none was named",
                fix=f"say which: `{example}` for the one that `mechctl up` started",
            )
        return bench

    @cached_property
    def store(self) -> ArtifactStore:
        """The platform's artifacts; what is read of them is kept below `cache.dir`."""
        where = hashlib.sha256(self.client.base_url.encode()).hexdigest()[:12]
        return self._store_in(self.config.cache.dir / "platforms" / where)

    @cached_property
    def n_layers(self) -> int:
        """How many layers the model has, by its configuration here."""
        from interpretops.models.sources import layers_of

        return layers_of(self.config.model.name, cache_dir=self.config.cache.dir)

    def describe(self) -> str:
        """The model, and the platform's address."""
        return f"[bold]{self.config.model.name}[/]  on the platform at {self.client.base_url}"

    def trace(self, prompts: PromptSet, spec: TraceSpec, monitor: Monitor) -> Manifest:
        """Submit a trace and follow it."""
        asked = {"prompts": list(prompts), "spec": spec, "model": self._model}
        return self._made(self.client.traces.create, asked, monitor)

    def train_dictionary(
        self, source: str | PromptSet, spec: DictionarySpec, monitor: Monitor
    ) -> Manifest:
        """Submit a training and follow it."""
        asked: dict[str, Any] = {"spec": spec, "model": self._model}
        if isinstance(source, str):
            asked["trace"] = self.store.get(source).id
        else:
            asked["prompts"] = list(source)
        return self._made(self.client.dictionaries.create, asked, monitor)

    def search(
        self, task: ContrastTask, spec: SearchSpec, dictionary: str | None, monitor: Monitor
    ) -> Circuit:
        """Submit a search and follow it; the platform picks the behaviour that fits the class."""
        from interpretops.circuits import Circuit

        asked = {
            "risk_class": task.risk_class,
            "pairs": list(task.pairs) or None,
            "prompts": list(task.prompts) or None,
            "dictionary": None if dictionary is None else self.store.get(dictionary).id,
            "spec": spec,
            "model": self._model,
        }
        return self._opened(Circuit, self.client.circuits.analyze, asked, monitor)

    def compare_circuits(self, base: str, other: str) -> CircuitComparison:
        """Have the platform compare them."""
        from interpretops.drift.circuits import CircuitComparison

        ids = [self.store.get(ref).id for ref in (base, other)]
        return CircuitComparison.model_validate(self.client.circuits.compare(*ids))

    def import_graph(self, content: bytes) -> Manifest:
        """Send it to the platform."""
        return self.store.get(self.client.circuits.import_graph(content).id)

    def propose_policy(
        self, circuit: str, dictionary: str | None, spec: ProposeSpec, monitor: Monitor
    ) -> PolicyArtifact:
        """Submit a fit to the platform's own prompts and follow it."""
        from interpretops.steering import PolicyArtifact

        asked = {
            "circuit": self.store.get(circuit).id,
            "dictionary": None if dictionary is None else self.store.get(dictionary).id,
            "spec": spec,
            "model": self._model,
        }
        return self._opened(PolicyArtifact, self.client.policies.propose, asked, monitor)

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
        """Submit an evaluation and follow it."""
        from interpretops.evals import RiskCardArtifact
        from interpretops.evals.suites import read_suites

        given = self._policy(policy)
        asked: dict[str, Any] = {
            **({"policy": given["artifact"]} if "artifact" in given else {}),
            **({"policy_yaml": given["yaml"]} if "yaml" in given else {}),
            "only": list(only),
            "circuit": None if circuit is None else self.store.get(circuit).id,
            "dictionary": None if sae is None else self.store.get(sae).id,
            "contrast": _CONTRAST,
            "spec": spec,
            "model": self._model,
        }
        if "://" in suites or suites.startswith("package:"):
            asked["suites_uri"] = suites
        else:
            asked["suites"] = list(read_suites(suites))
        return self._opened(RiskCardArtifact, self.client.evaluations.create, asked, monitor)

    def write_report(self, card: str, spec: ReportSpec, monitor: Monitor) -> ReportArtifact:  # noqa: ARG002
        """Submit a report and follow it; the platform says how long and where it keeps things."""
        from interpretops.reports import ReportArtifact

        asked = {"risk_card": self.store.get(card).id}
        return self._opened(ReportArtifact, self.client.reports.create, asked, monitor)

    def answers(
        self,
        policy: str,
        prompts: Sequence[str],
        max_new_tokens: int,
        temperature: float,
        seed: int | None,
        *,
        sae: str | None = None,  # noqa: ARG002 - an active policy states its dictionary
    ) -> Iterator[BothAnswers]:
        """Ask for both answers; the policy is one in production, by its name."""
        if Path(policy).exists() or policy.startswith("pol_"):
            raise InterpretOpsError(
                f"a platform steers by policies in production, and {policy} is a file or artifact",
                fix="give the name of an active policy; `mechctl eval` measures any",
            )
        found = self.client.steer(
            policy,
            prompts,
            model=self._served,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
        )
        for each in found.results:
            yield BothAnswers(
                policy, each.baseline, each.steered, each.fired, each.score, each.threshold
            )

    def check_policy(self, policy: str, *, sae: str | None, schema_only: bool) -> str:
        """Have the platform check a policy; the first problem is raised."""
        verdict = self.client.policies.validate(
            **self._policy(policy),
            dictionary=None if sae is None else self.store.get(sae).id,
            model=None if schema_only else self._served,
        )
        if not verdict.valid:
            first = verdict.problems[0]
            place = f"{policy}:{first.line}:{first.column or 1} " if first.line else ""
            more = len(verdict.problems) - 1
            raise InterpretOpsError(
                f"{place}{first.field}: {first.problem}" + (f" (and {more} more)" if more else ""),
                fix=first.fix or "correct it",
            )
        return verdict.name or policy

    def explain_policy(self, policy: str, *, sae: str | None) -> Sequence[str]:
        """Have the platform explain a policy."""
        dictionary = None if sae is None else self.store.get(sae).id
        return self.client.policies.explain(**self._policy(policy), dictionary=dictionary)

    def publish(self, policy: str) -> PolicyVersion:
        """Store a policy as the next version of its name, and put it forward for approval.

        Storing what the newest version already says gives that version.
        """
        made = self.client.policies.create(**self._policy(policy), model=self._served)
        if made.state != "draft":
            return made
        return self.client.policies.put_forward(made.name, made.version)

    def store_to_verify(self) -> ArtifactStore:
        """The artifacts without the copies kept here, so that the platform's own are checked."""
        self._fresh = tempfile.TemporaryDirectory(prefix="interpretops-verify-")
        return self._store_in(Path(self._fresh.name))

    @property
    def _model(self) -> str:
        """The model as jobs name it; a folder or file has to be the platform's too."""
        path = Path(self.config.model.name).expanduser()
        return path.resolve().as_uri() if path.exists() else self.config.model.name

    @cached_property
    def _served(self) -> str:
        """How requests call the model of the settings.

        Raises:
            InterpretOpsError: When it is not among those that answer.
        """
        served = [model.name for model in self.client.models()]
        whole = self.config.model.name
        for name in (whole, whole.removeprefix("builtin:").rstrip("/").rpartition("/")[2]):
            if name in served:
                return name
        raise InterpretOpsError(
            f"the model {whole} does not answer there",
            fix=f"set model.name (--config) to one that does: {', '.join(served) or 'none'}",
        )

    def _store_in(self, folder: Path) -> ArtifactStore:
        return ArtifactStore(folder, PlatformObjects(self.client, folder))

    def _policy(self, ref: str) -> dict[str, str]:
        """A policy as requests name it: an artifact's id, or the text of a file."""
        path = Path(ref)
        if (path / MANIFEST).is_file():
            return {"artifact": self.store.get(ref).id}
        if path.is_dir():
            path /= "policy.yaml"
        if path.is_file():
            return {"yaml": path.read_text(encoding="utf-8")}
        return {"artifact": ref if ref.startswith("pol_") else self._artifact_of(ref)}

    def _artifact_of(self, name: str) -> str:
        """The artifact of a policy's active version, or of `name@3`."""
        plain_name, _, number = name.partition("@")
        for version in self.client.policies.versions(plain_name):
            wanted = str(version.version) == number if number else version.state == "active"
            if wanted and version.artifact is not None:
                return version.artifact
        raise InterpretOpsError(
            f"no version of {plain_name} is active" if not number else f"there is no {name}",
            fix="give a version, such as NAME@1, a policy artifact, or a file",
        )

    def _opened(
        self,
        kind: type[HandleT],
        submit: Callable[..., Job],
        asked: dict[str, Any],
        monitor: Monitor,
    ) -> HandleT:
        return kind.open(self.store, self._made(submit, asked, monitor).id)

    def _made(
        self, submit: Callable[..., Job], asked: dict[str, Any], monitor: Monitor
    ) -> Manifest:
        """What comes of a piece of work: found, or made by a job that is followed to its end.

        Jobs are known by a key made of what is asked for. One that came to nothing, or whose result
        was deleted since, is passed over, and the work is submitted again under the next key.
        """
        name = submit.__qualname__
        digest = hashlib.sha256(canonical_json([name, plain(asked)])).hexdigest()[:40]
        for attempt in range(_LONGEST_PATIENCE):
            try:
                job = submit(**asked, key=f"{digest}-{attempt}")
            except ApiError as error:
                if error.status == _CONFLICT and attempt < _LONGEST_PATIENCE - 1:
                    continue  # the platform's defaults changed since that key was used
                raise
            if job.state.final and job.state is not JobState.SUCCEEDED:
                continue
            done = self.client.jobs.wait(job, progress=monitor)
            try:
                return self.store.get(str(done.result))
            except InterpretOpsError:
                if not job.state.final:
                    raise
        raise InterpretOpsError(
            "this work has come to nothing too often",
            fix="look at the platform's jobs and logs, and change what is asked for",
        )


_CONFLICT = 409


def _file(key: str) -> str:
    return key.split("/", 2)[2]


def _refuse(key: str) -> NoReturn:
    raise InterpretOpsError(
        f"{key.split('/')[1]} is not on the platform, and cannot be put there from here",
        fix="name an artifact of the platform (`mechctl artifacts ls`), or leave out --api",
    )
