"""From text to a dictionary artifact: training, calibration, evaluation, cards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file

from interpretops.artifacts import ArtifactKind
from interpretops.errors import InterpretOpsError
from interpretops.models import run_batched, site
from interpretops.progress import SILENT, Monitor, Steps
from interpretops.prompts import PromptSet, Redactor
from interpretops.sae.activations import ActivationSource, ModelActivations, TensorActivations
from interpretops.sae.calibration import calibrate_thresholds, calibration_steps
from interpretops.sae.cards import describe_features
from interpretops.sae.dictionary import CARDS, INDEX, Dictionary, DictionaryIndex, pack_cards
from interpretops.sae.evaluation import evaluate_dictionary
from interpretops.sae.fitting import fit
from interpretops.sae.saelens import saelens_files
from interpretops.sae.spec import DictionarySpec
from interpretops.sae.token_stream import TokenStream
from interpretops.sae.topk import TopKSAE
from interpretops.tracing import Trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from interp_engine import Address
    from pydantic import JsonValue
    from torch import Tensor

    from interpretops.artifacts import ArtifactStore, Draft
    from interpretops.models import HookedModel
    from interpretops.sae.evaluation import SiteEvaluation
    from interpretops.sae.module import SAE

_CHECKPOINT = ".checkpoint.safetensors"
_ANSWERS = ".answers.json"
_CALIBRATION_TOKENS = 8192
_ANSWERS_AT_A_TIME = 16


class DictionaryWork(DictionarySpec):
    """A spec together with what it is applied to, which is what decides the result.

    Attributes:
        source_sha256: Of the prompts or tokens.
    """

    source_sha256: str


def train_dictionary(
    model: HookedModel,
    source: PromptSet | Trace | TokenStream,
    spec: DictionarySpec,
    *,
    store: ArtifactStore,
    monitor: Monitor = SILENT,
) -> Dictionary:
    """Train dictionaries at `spec.sites`, evaluate them and describe their features.

    A share of the sequences is held out for evaluation. A run that was stopped or killed goes on
    from its last checkpoint and ends with the weights of an uninterrupted run.

    Args:
        model: The model.
        source: Prompts (chat template applied, with the model's own answers where
            `spec.answer_tokens` is set), packed text, or a trace, whose activations are used.
        spec: What to train.
        store: Where the artifact goes, and where an equal one is looked for first.
        monitor: Told of every step of every stage.

    Returns:
        The dictionary.

    Raises:
        InterpretOpsError: When there is too little text, `k` does not fit, the model or the trace
            lacks a site, or activations are not finite.
        Cancelled: When the monitor asked to stop.
    """
    parents = [source.id] if isinstance(source, Trace) else []
    if isinstance(source, Trace):
        _check_trace(model, source, spec)
    sha256 = (TokenStream.from_trace(source) if isinstance(source, Trace) else source).sha256
    work = DictionaryWork(**spec.model_dump(), source_sha256=sha256)
    made = store.find(ArtifactKind.DICTIONARY, work, model=model.ref, parents=parents)
    if made is not None:
        return Dictionary.open(store, made.id)
    with store.draft(
        ArtifactKind.DICTIONARY, work, model=model.ref, parents=parents, seeds=[spec.seed]
    ) as draft:
        manifest_id = _make(model, source, spec, draft, monitor)
    return Dictionary.open(store, manifest_id)


def _make(
    model: HookedModel,
    source: PromptSet | Trace | TokenStream,
    spec: DictionarySpec,
    draft: Draft,
    monitor: Monitor,
) -> str:
    sites = [site(name) for name in spec.sites]
    stream = _stream(model, source, spec, draft, monitor)
    train, heldout = stream.split(spec.heldout, spec.seed)
    activations: ActivationSource
    if isinstance(source, Trace):
        activations = TensorActivations.from_trace(
            source, sites, prompts=train, skip_positions=spec.skip_positions, seed=spec.seed
        )
    else:
        activations = ModelActivations(
            model,
            stream.select(train),
            sites,
            skip_positions=spec.skip_positions,
            forward_tokens=spec.forward_tokens,
            seed=spec.seed,
            monitor=monitor,
        )
        if spec.batch <= activations.n_rows <= spec.buffer_tokens:
            # All of it fits into the buffer: later epochs need no forward.
            rows = activations.rows(0, activations.n_rows)
            activations = TensorActivations(rows, spec.seed)

    def save(tensors: dict[str, Tensor]) -> None:
        draft.write_tensors(_CHECKPOINT, tensors)

    saes = fit(
        activations,
        spec,
        device=model.device,
        resume_from=_checkpoint(draft),
        save_checkpoint=save,
        monitor=monitor,
    )
    competing = {address: sae for address, sae in saes.items() if isinstance(sae, TopKSAE)}
    if competing:
        steps = Steps(
            monitor, "calibrating features", sum(map(calibration_steps, competing.values()))
        )
        sample = activations.rows(0, min(activations.n_rows, _CALIBRATION_TOKENS))
        for address, rival in competing.items():
            calibrate_thresholds(rival, sample[address].to(model.device), steps=steps)
    evaluation = evaluate_dictionary(
        model,
        saes,
        stream.select(heldout),
        max_tokens=spec.evaluation_tokens,
        skip_positions=spec.skip_positions,
        seed=spec.seed,
        monitor=monitor,
    )
    if spec.card_tokens:
        described = describe_features(
            model,
            saes,
            stream,
            max_tokens=spec.card_tokens,
            skip_positions=spec.skip_positions,
            contexts=spec.contexts_per_card,
            reach=spec.context_window,
            tokens_per_card=spec.tokens_per_card,
            forward_tokens=spec.forward_tokens,
            monitor=monitor,
        )
        for address, cards in described.items():
            draft.write_bytes(f"{address}/{CARDS}", pack_cards(cards))
    for address, sae in saes.items():
        files = saelens_files(sae, model_name=model.name, context_size=spec.context_length)
        for name, data in files.items():
            draft.write_bytes(f"{address}/{name}", data)
    draft.write_json(
        INDEX,
        DictionaryIndex(
            sites=tuple(str(address) for address in saes),
            source=stream.source,
            train_tokens=spec.steps * spec.batch,
            evaluation={str(address): found for address, found in evaluation.items()},
        ),
    )
    summary = _summary(spec, saes, evaluation)
    if not isinstance(source, TokenStream):  # a stream of tokens does not say what its text was
        looked_for = source.index.redacted if isinstance(source, Trace) else source.redacted
        summary["redacted"] = None if looked_for is None else list(looked_for)
    return draft.commit(summary=summary, redactions=stream.redactions).id


def _stream(
    model: HookedModel,
    source: PromptSet | Trace | TokenStream,
    spec: DictionarySpec,
    draft: Draft,
    monitor: Monitor,
) -> TokenStream:
    if isinstance(source, TokenStream):
        return source
    if isinstance(source, Trace):
        return TokenStream.from_trace(source)
    answers = _answers(model, source, spec, draft, monitor) if spec.answer_tokens else None
    return TokenStream.from_prompts(
        model, source, context_length=spec.context_length, answers=answers
    )


def _answers(
    model: HookedModel, prompts: PromptSet, spec: DictionarySpec, draft: Draft, monitor: Monitor
) -> list[str]:
    """What the model answers to each prompt, greedily; kept in the draft for a resumed run."""
    kept = draft.path / _ANSWERS
    if kept.is_file():
        answers: list[str] = json.loads(kept.read_bytes())
        return answers
    steps = Steps(monitor, "answering prompts", len(prompts))

    def answer(chunk: Sequence[str]) -> list[str]:
        found = model.generate(list(chunk), spec.answer_tokens)
        steps.advance(len(chunk))
        return found

    answers = run_batched(prompts.texts, answer, _ANSWERS_AT_A_TIME)
    if prompts.redacted is not None:  # the model may say what the prompts no longer do
        redactor = Redactor()
        answers = [redactor.scrub(answer)[0] for answer in answers]
    draft.write_json(_ANSWERS, answers)
    return answers


def _checkpoint(draft: Draft) -> dict[str, Tensor] | None:
    path = draft.path / _CHECKPOINT
    if not path.is_file():
        return None
    try:
        return load_file(path)
    except SafetensorError:  # damaged on disk: begin again rather than go on from rubbish
        return None


def _check_trace(model: HookedModel, trace: Trace, spec: DictionarySpec) -> None:
    made_with = trace.manifest.model
    if made_with is not None and made_with.fingerprint != model.ref.fingerprint:
        raise InterpretOpsError(
            f"trace {trace.id} was made with another model ({made_with.name})",
            fix="load that model, or trace the prompts again with this one",
        )
    for name in spec.sites:
        trace.activations(name)


def _summary(
    spec: DictionarySpec,
    saes: Mapping[Address, SAE],
    evaluation: Mapping[Address, SiteEvaluation],
) -> dict[str, JsonValue]:
    summary: dict[str, JsonValue] = {"kind": spec.kind.value, "k": spec.k}
    for address, found in evaluation.items():
        summary[str(address)] = {
            "d_sae": saes[address].d_sae,
            "l0": found.l0,
            "fvu": found.fvu,
            "silent_share": found.silent_share,
            "ce_recovered": found.recovered_vs_zero.value,
            "n_tokens": found.n_tokens,
        }
    return summary
