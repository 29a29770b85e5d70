"""`Client`: everything a platform does, by what it is about."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

from httpx_sse import EventSource
from pydantic import BaseModel

from interpretops.client.documents import (
    Artifact,
    ArtifactDetails,
    ArtifactName,
    AuditEntry,
    AuditVerdict,
    CircuitDocument,
    Identity,
    Job,
    JobEvent,
    JobProgress,
    JobState,
    Lineage,
    ModelDocument,
    Page,
    PolicyVerdict,
    PolicyVersion,
    RiskCardDocument,
    SteerResult,
)
from interpretops.client.transport import ApiError, Transport, plain, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    import httpx

    from interpretops.errors import InterpretOpsError
    from interpretops.progress import Monitor

Spec = BaseModel | dict[str, Any]
"""A spec of the engine, or its fields."""
Prompts = str | dict[str, Any] | Sequence[str | BaseModel | Mapping[str, Any]]
"""Prompts, or where they are."""

_FINAL = frozenset({"succeeded", "failed", "cancelled", "dead_lettered"})
_IDLE_SECONDS = 60.0
_CONNECTIONS_LOST = 10
D = TypeVar("D", bound=BaseModel)


class Client:
    """One platform, as one caller. Close it, or use it as a context manager.

    Args:
        base_url: Where the edge answers, such as `http://127.0.0.1:8080`.
        api_key: Who calls.
        timeout: Seconds to wait for an answer; long work is waited for by `jobs.wait`.
        http: The httpx client to send with, for tests and unusual networks.

    Raises:
        InterpretOpsError: When the address is none.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        http: httpx.Client | None = None,
    ) -> None:
        self._transport = Transport(base_url, api_key, timeout=timeout, http=http)

    @property
    def base_url(self) -> str:
        """Where the edge answers."""
        return self._transport.base_url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    @cached_property
    def traces(self) -> Traces:
        """Activations of prompts."""
        return Traces(self._transport)

    @cached_property
    def dictionaries(self) -> Dictionaries:
        """Feature dictionaries."""
        return Dictionaries(self._transport)

    @cached_property
    def circuits(self) -> Circuits:
        """Circuits behind a risk."""
        return Circuits(self._transport)

    @cached_property
    def policies(self) -> Policies:
        """Policies, from a fit to production."""
        return Policies(self._transport)

    @cached_property
    def evaluations(self) -> Evaluations:
        """Risk Cards."""
        return Evaluations(self._transport)

    @cached_property
    def reports(self) -> Reports:
        """Audit reports."""
        return Reports(self._transport)

    @cached_property
    def jobs(self) -> Jobs:
        """Long work: look at it, follow it, wait for it, stop it."""
        return Jobs(self._transport)

    @cached_property
    def artifacts(self) -> Artifacts:
        """Everything that was made."""
        return Artifacts(self._transport)

    @cached_property
    def audit(self) -> Audit:
        """Who did what."""
        return Audit(self._transport)

    def models(self) -> list[ModelDocument]:
        """The models that answer."""
        answer = self._transport.request("GET", "/models")
        return read(Page[ModelDocument], answer).items

    def whoami(self) -> Identity:
        """Whom the key stands for."""
        return read(Identity, self._transport.request("GET", "/whoami"))

    def steer(
        self,
        policy: str,
        prompts: Sequence[str],
        *,
        model: str | None = None,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> SteerResult:
        """Answer prompts with and without a policy, side by side.

        Args:
            policy: Name of an active policy.
            prompts: Each a user's turn of its own.
            model: A loaded model; by default the installation's.
            max_new_tokens: Longest answer, in tokens.
            temperature: 0 takes the most likely token.
            seed: Of sampling.
        """
        body = {
            "policy": policy,
            "prompts": list(prompts),
            "model": model,
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "seed": seed,
        }
        answer = self._transport.request("POST", "/steer", body=body, timeout=_GENERATE_SECONDS)
        return read(SteerResult, answer)

    def chat(
        self,
        messages: str | Sequence[Mapping[str, str]],
        *,
        model: str,
        policy: str | None = None,
        max_tokens: int = 256,
        **options: Any,
    ) -> str:
        """Answer a conversation.

        Args:
            messages: Turns with `role` and `content`; a text alone is a user's turn.
            model: Name of a loaded model.
            policy: Name of the active policy that steers it.
            max_tokens: Longest answer, in tokens.
            **options: Further fields of OpenAI's `/v1/chat/completions`.
        """
        body = _chat_body(messages, model, policy, max_tokens, options)
        answer = self._transport.request(
            "POST", "/v1/chat/completions", body=body, timeout=_GENERATE_SECONDS
        ).json()
        return str(answer["choices"][0]["message"]["content"])

    def chat_stream(
        self,
        messages: str | Sequence[Mapping[str, str]],
        *,
        model: str,
        policy: str | None = None,
        max_tokens: int = 256,
        **options: Any,
    ) -> Iterator[str]:
        """Answer a conversation piece by piece, as it is generated; see `chat`."""
        body = {**_chat_body(messages, model, policy, max_tokens, options), "stream": True}
        for piece in self._pieces("/v1/chat/completions", body):
            yield piece.get("delta", {}).get("content") or ""

    def generate(
        self,
        prompt: str,
        *,
        model: str,
        policy: str | None = None,
        max_tokens: int = 256,
        **options: Any,
    ) -> str:
        """Continue a text, without a chat template.

        Args:
            prompt: The text.
            model: Name of a loaded model.
            policy: Name of the active policy that steers it.
            max_tokens: Longest answer, in tokens.
            **options: Further fields of OpenAI's `/v1/completions`.
        """
        body = _completion_body(prompt, model, policy, max_tokens, options)
        answer = self._transport.request(
            "POST", "/v1/completions", body=body, timeout=_GENERATE_SECONDS
        ).json()
        return str(answer["choices"][0]["text"])

    def generate_stream(
        self,
        prompt: str,
        *,
        model: str,
        policy: str | None = None,
        max_tokens: int = 256,
        **options: Any,
    ) -> Iterator[str]:
        """Continue a text piece by piece, as it is generated; see `generate`."""
        body = {**_completion_body(prompt, model, policy, max_tokens, options), "stream": True}
        for piece in self._pieces("/v1/completions", body):
            yield piece.get("text") or ""

    def _pieces(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        with self._transport.stream("POST", path, body=body, timeout=_GENERATE_SECONDS) as answer:
            for event in EventSource(answer).iter_sse():
                if event.data == "[DONE]":
                    return
                content = json.loads(event.data)
                if "error" in content:
                    said = content["error"]
                    raise ApiError(str(said.get("message")), fix="try again", status=200)
                yield from content.get("choices", ())


_GENERATE_SECONDS = 600.0


@dataclass(frozen=True)
class _Room:
    """Requests about one thing."""

    transport: Transport

    def _submit(self, path: str, body: Mapping[str, Any], key: str | None) -> Job:
        """Submit work; under one key the same work is one job, however often it is sent."""
        headers = {"idempotency-key": key or uuid.uuid4().hex}
        return read(Job, self.transport.request("POST", path, body=body, headers=headers))

    def _get(self, document: type[D], path: str, /, **params: Any) -> D:
        return read(document, self.transport.request("GET", path, params=params))

    def _post(self, kind: type[D], path: str, body: Mapping[str, Any] | None = None) -> D:
        return read(kind, self.transport.request("POST", path, body=body))

    def _all(self, document: type[D], path: str, /, **params: Any) -> Iterator[D]:
        """Every item of a list, newest first, page by page."""
        cursor: str | None = None
        while True:
            page = self._get(Page[document], path, cursor=cursor, **params)  # type: ignore[valid-type]
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return


class Traces(_Room):
    """Activations of prompts."""

    def create(
        self, prompts: Prompts, spec: Spec, *, model: str | None = None, key: str | None = None
    ) -> Job:
        """Run prompts through a model and keep its activations.

        Args:
            prompts: Texts, prompts, or where they are: a URI, or a mapping with `uri` and `split`.
            spec: A `TraceSpec`, or its fields; it names the sites.
            model: By default the installation's.
            key: Under one key, one job; by default a new one.
        """
        body = {"model": model, "spec": spec, **_prompts(prompts)}
        return self._submit("/traces", body, key)

    def list(self) -> Iterator[Artifact]:
        """Traces, newest first."""
        return self._all(Artifact, "/traces")


class Dictionaries(_Room):
    """Feature dictionaries."""

    def create(
        self,
        spec: Spec,
        *,
        trace: str | None = None,
        prompts: Prompts | None = None,
        text_uri: str | None = None,
        model: str | None = None,
        key: str | None = None,
    ) -> Job:
        """Learn a dictionary at each site of the spec, from one of trace, prompts and text.

        Args:
            spec: A `DictionarySpec`, or its fields.
            trace: Id of a trace that holds the sites.
            prompts: Or prompts, streamed through the model; see `Traces.create`.
            text_uri: Or plain text.
            model: By default the installation's.
            key: Under one key, one job.
        """
        body = {"model": model, "spec": spec, "trace": trace, "text_uri": text_uri}
        return self._submit("/dictionaries", {**body, **_prompts(prompts)}, key)

    def list(self) -> Iterator[Artifact]:
        """Dictionaries, newest first."""
        return self._all(Artifact, "/dictionaries")


class Circuits(_Room):
    """Circuits behind a risk."""

    def analyze(
        self,
        risk_class: str,
        prompts: Prompts | None = None,
        *,
        harmless: Sequence[str] | None = None,
        pairs: Sequence[BaseModel | Mapping[str, Any]] | None = None,
        behaviour: Mapping[str, Any] | None = None,
        dictionary: str | None = None,
        spec: Spec | None = None,
        model: str | None = None,
        key: str | None = None,
    ) -> Job:
        """Find the heads, MLPs and features that tell risky prompts from harmless ones.

        A prompt without a twin is compared with packaged harmless prompts of equal length.

        Args:
            risk_class: Name of the risk, such as `jailbreak`.
            prompts: Risky prompts; see `Traces.create`.
            harmless: A twin of each, where prompts bring none of their own.
            pairs: Or pairs of `risky` and `harmless`.
            behaviour: What is read off the next token; by default fit for the class.
            dictionary: Id of a dictionary whose features are scored too.
            spec: A `SearchSpec`, or its fields.
            model: By default the installation's.
            key: Under one key, one job.
        """
        body = {
            "class": risk_class,
            "harmless": harmless,
            "pairs": pairs,
            "behaviour": behaviour,
            "dictionary": dictionary,
            "spec": spec,
            "model": model,
        }
        return self._submit("/analyze", {**body, **_prompts(prompts)}, key)

    def get(self, circuit_id: str) -> CircuitDocument:
        """A circuit: its graph, and the score of each unit."""
        return self._get(CircuitDocument, f"/circuit/{circuit_id}")

    def compare(self, base: str, other: str) -> dict[str, Any]:
        """Which units two circuits of one behaviour share, as `CircuitComparison` has it.

        Args:
            base: Id of the circuit that is compared with.
            other: Id of the one that is compared.
        """
        found: dict[str, Any] = self.transport.request(
            "GET", "/circuits/compare", params={"base": base, "other": other}
        ).json()
        return found

    def import_graph(self, content: bytes) -> Artifact:
        """Keep an attribution graph of circuit-tracer or Neuronpedia; the same file, once.

        Args:
            content: The JSON file.
        """
        headers = {"idempotency-key": hashlib.sha256(content).hexdigest()}
        answer = self.transport.request("POST", "/circuits/import", body=content, headers=headers)
        return read(Artifact, answer)

    def list(self) -> Iterator[Artifact]:
        """Circuits, newest first."""
        return self._all(Artifact, "/circuits")


class Policies(_Room):
    """Policies: fitted or written, checked, and brought to production by two pairs of eyes."""

    def propose(
        self,
        *,
        circuit: str | None = None,
        dictionary: str | None = None,
        data: Mapping[str, Any] | None = None,
        spec: Spec | None = None,
        model: str | None = None,
        key: str | None = None,
    ) -> Job:
        """Fit a policy to prompts; `create(artifact=...)` makes a version of what comes out.

        Args:
            circuit: The circuit whose units are preferred.
            dictionary: The dictionary whose features may be held; by default the circuit's.
            data: Prompts to fit to and to check on; by default the project's own.
            spec: A `ProposeSpec`, or its fields.
            model: By default the installation's.
            key: Under one key, one job.
        """
        body = {
            "circuit": circuit,
            "dictionary": dictionary,
            "data": data,
            "spec": spec,
            "model": model,
        }
        return self._submit("/policies/propose", body, key)

    def create(
        self,
        *,
        yaml: str | None = None,
        artifact: str | None = None,
        files: str | None = None,
        model: str | None = None,
    ) -> PolicyVersion:
        """Store a policy as the next version of its name, as a draft.

        Args:
            yaml: The text of `policy.yaml`.
            artifact: Or a policy artifact, such as a proposal's.
            files: The policy artifact with the vectors that a text names.
            model: The model it is for; by default the installation's.
        """
        body = {"yaml": yaml, "artifact": artifact, "files": files, "model": model}
        return self._post(PolicyVersion, "/policies", body)

    def validate(
        self,
        *,
        yaml: str | None = None,
        artifact: str | None = None,
        files: str | None = None,
        dictionary: str | None = None,
        model: str | None = None,
    ) -> PolicyVerdict:
        """Everything that is wrong with a policy; against a model too where one is named."""
        body = {
            "yaml": yaml,
            "artifact": artifact,
            "files": files,
            "dictionary": dictionary,
            "model": model,
        }
        return self._post(PolicyVerdict, "/policies/validate", body)

    def explain(
        self,
        *,
        yaml: str | None = None,
        artifact: str | None = None,
        files: str | None = None,
        dictionary: str | None = None,
    ) -> list[str]:
        """A policy in sentences: the condition first, then its interventions."""
        body = {"yaml": yaml, "artifact": artifact, "files": files, "dictionary": dictionary}
        answer = self.transport.request("POST", "/policies/explain", body=body).json()
        return [str(sentence) for sentence in answer["sentences"]]

    def list(self) -> Iterator[PolicyVersion]:
        """Policies by name, each by its newest version."""
        return self._all(PolicyVersion, "/policies")

    def versions(self, name: str) -> Iterator[PolicyVersion]:
        """The versions of a policy, newest first."""
        return self._all(PolicyVersion, f"/policies/{name}")

    def get(self, name: str, version: int) -> PolicyVersion:
        """One version, with its text."""
        return self._get(PolicyVersion, f"/policies/{name}/versions/{version}")

    def put_forward(self, name: str, version: int) -> PolicyVersion:
        """Ask for a draft to be approved."""
        return self._step(name, version, "propose")

    def approve(self, name: str, version: int) -> PolicyVersion:
        """Approve a version that somebody else wrote."""
        return self._step(name, version, "approve")

    def activate(self, name: str, version: int) -> PolicyVersion:
        """Put an approved version into production, in place of the active one."""
        return self._step(name, version, "activate")

    def retire(self, name: str, version: int) -> PolicyVersion:
        """Take a version out of production, or give it up on its way there."""
        return self._step(name, version, "retire")

    def drift(
        self,
        name: str,
        *,
        version: int | None = None,
        hours: int | None = None,
        reference: str | None = None,
        parts: int = 0,
    ) -> dict[str, Any]:
        """Compare the traffic of a policy with what it was fitted on, or saw at first.

        Args:
            name: The policy.
            version: Which version of it; the active one by default.
            hours: How many of the latest hours; as configured by default.
            reference: `fit` or `traffic`; as configured by default.
            parts: Compare so many parts of the window as well.
        """
        asked = {"version": version, "hours": hours, "reference": reference, "parts": parts}
        query = {key: value for key, value in asked.items() if value is not None}
        answer = self.transport.request("GET", f"/drift/{name}", params=query)
        found: dict[str, Any] = answer.json()
        return found

    def roll_back(self, name: str, *, to_version: int | None = None) -> PolicyVersion:
        """Put a version into production again that was there before."""
        return self._post(PolicyVersion, f"/policies/{name}/roll-back", {"to_version": to_version})

    def _step(self, name: str, version: int, step: str) -> PolicyVersion:
        return self._post(PolicyVersion, f"/policies/{name}/versions/{version}/{step}")


class Evaluations(_Room):
    """Risk Cards."""

    def create(
        self,
        *,
        policy: str | None = None,
        policy_yaml: str | None = None,
        policy_files: str | None = None,
        suites: Sequence[BaseModel | Mapping[str, Any]] | None = None,
        suites_uri: str | None = None,
        only: Sequence[str] = (),
        circuit: str | None = None,
        dictionary: str | None = None,
        contrast: Mapping[str, Any] | None = None,
        spec: Spec | None = None,
        model: str | None = None,
        key: str | None = None,
    ) -> Job:
        """Measure a policy on suites it was not fitted to.

        Args:
            policy: Name of an active policy, `name@version`, or a policy artifact.
            policy_yaml: Or the text of `policy.yaml`.
            policy_files: The policy artifact with the vectors that the text names.
            suites: Suites; by default the project's own.
            suites_uri: Or a file of suites.
            only: Names of suites to take; else all.
            circuit: The circuit it came from; its stability goes on the card.
            dictionary: The dictionary whose features it names, where it states none.
            contrast: Where prompts with twins are, for the difference-in-means comparison.
            spec: An `EvalSpec`, or its fields.
            model: By default the installation's.
            key: Under one key, one job.
        """
        body = {
            "policy": policy,
            "policy_yaml": policy_yaml,
            "policy_files": policy_files,
            "suites": suites,
            "suites_uri": suites_uri,
            "only": list(only) or None,
            "circuit": circuit,
            "dictionary": dictionary,
            "contrast": contrast,
            "spec": spec,
            "model": model,
        }
        return self._submit("/eval", body, key)

    def get(self, risk_card: str) -> RiskCardDocument:
        """A Risk Card."""
        return self._get(RiskCardDocument, f"/risk-cards/{risk_card}")

    def list(self) -> Iterator[Artifact]:
        """Risk Cards, newest first."""
        return self._all(Artifact, "/risk-cards")


class Reports(_Room):
    """Audit reports."""

    def create(
        self,
        *,
        risk_card: str | None = None,
        circuit: str | None = None,
        spec: Spec | None = None,
        key: str | None = None,
    ) -> Job:
        """Write the audit report of a Risk Card.

        Args:
            risk_card: The Risk Card.
            circuit: Or a circuit: the newest Risk Card that was made from it.
            spec: A `ReportSpec`, or its fields.
            key: Under one key, one job.
        """
        body = {"risk_card": risk_card, "circuit_id": circuit, "spec": spec}
        return self._submit("/report", body, key)

    def pdf(self, report: str) -> bytes:
        """A report as PDF."""
        return self.transport.request("GET", f"/reports/{report}.pdf").content

    def list(self) -> Iterator[Artifact]:
        """Reports, newest first."""
        return self._all(Artifact, "/reports")


class Jobs(_Room):
    """Long work."""

    def get(self, job: str) -> Job:
        """A job as it is now."""
        return self._get(Job, f"/jobs/{job}")

    def list(self, *, state: JobState | None = None, kind: str | None = None) -> Iterator[Job]:
        """Jobs, newest first."""
        return self._all(Job, "/jobs", state=state, kind=kind)

    def cancel(self, job: str) -> Job:
        """Ask for a job's end: a queued one ends now, a running one at its next step."""
        return read(Job, self.transport.request("DELETE", f"/jobs/{job}"))

    def watch(self, job: str, *, after: str | None = None) -> Iterator[JobEvent]:
        """Follow a job from its beginning to its end. A lost connection is made again.

        Args:
            job: Its id.
            after: Begin behind the event with this cursor.

        Raises:
            ApiError: When there is no such job, or the platform stays away.
        """
        cursor, lost = after, 0
        while True:
            headers = {"accept": "text/event-stream"}
            if cursor is not None:
                headers["last-event-id"] = cursor
            try:
                with self.transport.stream(
                    "GET", f"/jobs/{job}/events", headers=headers, timeout=_IDLE_SECONDS
                ) as answer:
                    for event in EventSource(answer).iter_sse():
                        if not event.data:
                            continue
                        cursor, lost = event.id, 0
                        content = json.loads(event.data)
                        yield JobEvent(cursor=cursor, type=event.event, **content)
                        if event.event in _FINAL:
                            return
            except ApiError as error:
                if error.status not in (0, 429, 502, 503, 504) or lost >= _CONNECTIONS_LOST:
                    raise
            lost += 1
            if lost > _CONNECTIONS_LOST:
                raise ApiError(f"the events of {job} end early", fix="look at it with `jobs.get`")
            time.sleep(min(0.25 * 2 ** (lost - 1), 5.0))

    def wait(self, job: Job | str, *, progress: Monitor | None = None) -> Job:
        """Follow a job to its end.

        Args:
            job: The job.
            progress: Told of every step; when it raises, the job goes on.

        Returns:
            The job, which has succeeded.

        Raises:
            InterpretOpsError: When it has not; the message says why and what to do.
        """
        if isinstance(job, str):
            job = self.get(job)
        if not job.state.final:
            for event in self.watch(job.id):
                if event.type == "progress" and progress is not None:
                    said = JobProgress.model_validate(event.body)
                    progress.update(said.stage, said.done, said.total, **said.figures)
            job = self.get(job.id)
        if job.state is not JobState.SUCCEEDED:
            raise failure_of(job)
        return job


class Artifacts(_Room):
    """Everything that was made."""

    def get(self, artifact: str) -> ArtifactDetails:
        """An artifact, by its id or a name, with its files and manifest."""
        return self._get(ArtifactDetails, f"/artifacts/{artifact}")

    def list(self, *, kind: str | None = None, parent: str | None = None) -> Iterator[Artifact]:
        """Artifacts, newest first."""
        return self._all(Artifact, "/artifacts", kind=kind, parent=parent)

    def name(self, artifact: str, name: str) -> ArtifactName:
        """Call an artifact something, or move a name to it from another one of its kind.

        The name then stands for it in every request that asks for an id, until it is moved again.

        Args:
            artifact: Its id.
            name: Small letters, digits, `.`, `_` and `-`, such as `sae_v1`.
        """
        path, body = f"/names/{quote(name, safe='')}", {"artifact": artifact}
        return read(ArtifactName, self.transport.request("PUT", path, body=body))

    def unname(self, name: str) -> ArtifactName:
        """Take a name away from its artifact, which stays."""
        path = f"/names/{quote(name, safe='')}"
        return read(ArtifactName, self.transport.request("DELETE", path))

    def names(self) -> Iterator[ArtifactName]:
        """What artifacts are called, names that were given or moved last first."""
        return self._all(ArtifactName, "/names")

    def lineage(self, artifact: str) -> Lineage:
        """All that an artifact was made from."""
        return self._get(Lineage, f"/artifacts/{artifact}/lineage")

    def read(self, artifact: str, path: str) -> bytes:
        """A file of an artifact."""
        return self.transport.request("GET", f"/artifacts/{artifact}/files/{path}").content

    def download(self, artifact: str, path: str, to: Path, *, chunk_bytes: int = 1 << 20) -> Path:
        """Write a file of an artifact to this machine, without holding it in memory.

        Args:
            artifact: Its id.
            path: The file's path, as the artifact's `files` name it.
            to: Where to write it; its folder is made.
            chunk_bytes: How much is read at once.

        Raises:
            ApiError: When it is not there, or the connection broke; nothing is left at `to` then.
        """
        part = to.with_name(to.name + ".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        url = f"/artifacts/{artifact}/files/{path}"
        try:
            with self.transport.stream("GET", url) as answer, part.open("wb") as file:
                for chunk in answer.iter_bytes(chunk_bytes):
                    file.write(chunk)
            part.replace(to)
        finally:
            part.unlink(missing_ok=True)
        return to


class Audit(_Room):
    """Who did what."""

    def list(
        self, *, actor: str | None = None, action: str | None = None, target: str | None = None
    ) -> Iterator[AuditEntry]:
        """What was done, newest first."""
        return self._all(AuditEntry, "/audit", actor=actor, action=action, target=target)

    def verify(self, *, seq: int | None = None, hash: str | None = None) -> AuditVerdict:
        """Walk the chain, and say whether an entry that was noted earlier is still part of it."""
        return self._get(AuditVerdict, "/audit/verify", seq=seq, hash=hash)


def failure_of(job: Job) -> InterpretOpsError:
    """Why a job that is over did not succeed."""
    if job.error is not None and job.state is not JobState.CANCELLED:
        return ApiError(job.error.problem, fix=job.error.fix, field=job.error.field, job=job.id)
    said = job.state.lower().replace("_", " ")
    return ApiError(f"{job.id} was {said}", fix="submit it again if it is still wanted", job=job.id)


def _prompts(prompts: Prompts | None) -> dict[str, Any]:
    """The fields of a body that stand for prompts."""
    if prompts is None:
        return {}
    if isinstance(prompts, str):
        return {"prompts_from": {"uri": prompts}}
    if isinstance(prompts, dict):
        return {"prompts_from": prompts}
    return {"prompts": plain(list(prompts))}


def _chat_body(
    messages: str | Sequence[Mapping[str, str]],
    model: str,
    policy: str | None,
    max_tokens: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    return {
        "model": model,
        "messages": turns,
        "policy": policy,
        "max_tokens": max_tokens,
        **options,
    }


def _completion_body(
    prompt: str, model: str, policy: str | None, max_tokens: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": prompt,
        "policy": policy,
        "max_tokens": max_tokens,
        **options,
    }
