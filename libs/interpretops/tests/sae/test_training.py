"""`train_dictionary` end to end on a tiny model: artifacts, reuse, resume, refusals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from interpretops.artifacts import ArtifactKind, ArtifactStore
from interpretops.errors import Cancelled, InterpretOpsError
from interpretops.models import HookedModel
from interpretops.prompts import PromptSet
from interpretops.sae import Dictionary, DictionarySpec, Kind, TokenStream, train_dictionary
from interpretops.tracing import TraceSpec, trace
from pydantic import ValidationError

SITES = ("resid_post.0", "resid_post.1")


def _spec(**changes):
    settings = {
        "sites": SITES,
        "d_sae": 64,
        "k": 4,
        "tokens": 64 * 30,
        "batch": 64,
        "buffer_tokens": 256,
        "context_length": 24,
        "forward_tokens": 96,
        "lr": 3e-3,
        "checkpoint_steps": 10,
        "evaluation_tokens": 200,
        "card_tokens": 400,
        "contexts_per_card": 3,
        "context_window": 4,
        "heldout": 0.2,
    }
    return DictionarySpec(**{**settings, **changes})


def _texts(n=60):
    g = torch.Generator().manual_seed(11)
    letters = torch.randint(97, 123, (n, 30), generator=g)
    return ["".join(map(chr, row)) for row in letters.tolist()]


def _prompts(n=60):
    return PromptSet.of(_texts(n), source="letters.txt")


@pytest.mark.parametrize("kind", list(Kind))
def test_a_dictionary_artifact_holds_what_its_consumers_need(tiny, store, kind):
    made = train_dictionary(tiny, _prompts(), _spec(kind=kind), store=store)
    again = Dictionary.open(store, made.id)
    assert again.manifest.kind is ArtifactKind.DICTIONARY
    assert again.manifest.id.startswith("sae_")
    assert again.manifest.model.fingerprint == tiny.ref.fingerprint
    assert [str(a) for a in again.saes] == list(SITES)
    x = torch.randn(5, 32)
    for layer in (0, 1):
        sae = again.sae(layer)
        assert sae.kind == kind
        assert sae.address.layer == layer
        assert torch.equal(sae.encode(x), made.sae(f"resid_post.{layer}").encode(x))
        evaluation = again.evaluation(layer)
        assert 0 < evaluation.fvu < 2
        assert evaluation.n_tokens > 100
        assert evaluation.recovered_vs_zero.low <= evaluation.recovered_vs_zero.value
        cards = again.cards(layer)
        assert cards
        assert cards[0].contexts
        assert cards[0].promoted
        assert again.card(layer, cards[-1].index) == cards[-1]
    assert not [f.path for f in again.manifest.files if f.path.startswith(".")]


def test_the_same_work_is_not_done_twice(tiny, store):
    spec = _spec()
    first = train_dictionary(tiny, _prompts(), spec, store=store)

    class Fail:
        def update(self, *args, **figures):
            raise AssertionError("work was done again")

    assert train_dictionary(tiny, _prompts(), spec, store=store, monitor=Fail()).id == first.id
    other = train_dictionary(tiny, _prompts(), _spec(seed=1), store=store)
    assert other.id != first.id


def test_a_trace_gives_its_stored_activations_and_becomes_the_parent(tiny, store):
    traced = trace(tiny, _prompts(), TraceSpec(sites=SITES, shard_mb=0.01), store=store)
    made = train_dictionary(tiny, traced, _spec(), store=store)
    assert made.manifest.parents == (traced.id,)
    assert made.evaluation(1).n_tokens > 100
    # Same rows, same model: as good as when the activations are computed on the way.
    streamed = train_dictionary(tiny, _prompts(), _spec(context_length=200), store=store)
    assert made.evaluation(1).fvu == pytest.approx(streamed.evaluation(1).fvu, rel=0.3)


def test_training_from_a_trace_never_runs_the_model_for_training(tiny, store, monkeypatch):
    traced = trace(tiny, _prompts(), TraceSpec(sites=SITES), store=store)
    seen = []
    real = HookedModel.capture
    monkeypatch.setattr(
        HookedModel, "capture", lambda *a, **k: seen.append(1) or real(*a, **k), raising=True
    )
    train_dictionary(tiny, traced, _spec(card_tokens=0), store=store)
    assert not seen


def test_answers_follow_prompts_when_asked_for(tiny, store):
    prompts = _prompts(30)
    settings = {"context_length": 200, "evaluation_tokens": 10_000, "card_tokens": 0}
    alone = train_dictionary(tiny, prompts, _spec(**settings), store=store)
    made = train_dictionary(tiny, prompts, _spec(**settings, answer_tokens=6), store=store)
    longer = made.evaluation(0).n_tokens - alone.evaluation(0).n_tokens
    assert longer > 0

    answers = tiny.generate(prompts.texts, 6)
    stream = TokenStream.from_prompts(tiny, prompts, context_length=200, answers=answers)
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        asked = tiny.token_ids(prompt.text)
        assert stream.row(i)[: len(asked)] == asked
        assert tiny.text(stream.row(i)[len(asked) :]) == answer


def test_packed_files_are_a_source(tiny, store, tmp_path):
    file = tmp_path / "corpus.txt"
    file.write_text(" ".join(_texts(80)))
    stream = TokenStream.from_files(tiny, [file], context_length=24)
    made = train_dictionary(tiny, stream, _spec(), store=store)
    assert made.index.source == "corpus.txt"


class _StopAt:
    """Cancels at the `time`-th report that at least `done` of a stage is done."""

    def __init__(self, stage, done, time=1):
        self.stage, self.done, self.left = stage, done, time

    def update(self, stage, done, total, **figures):
        self.left -= stage == self.stage and done >= self.done
        if self.left == 0:
            raise Cancelled(stage)


@pytest.mark.parametrize(
    ("stop", "first_step"),
    [
        (_StopAt("training dictionaries", 17), 18),
        (_StopAt("reading activations", 256, time=3), 9),
        (_StopAt("reading activations", 256, time=1), 1),
        (_StopAt("evaluating dictionaries", 2), None),
        (_StopAt("describing features", 4), None),
    ],
    ids=lambda value: value.stage if isinstance(value, _StopAt) else None,
)
def test_a_stopped_run_resumes_to_the_same_payload(tiny, tmp_path, stop, first_step):
    whole = train_dictionary(tiny, _prompts(), _spec(), store=ArtifactStore(tmp_path / "whole"))
    store = ArtifactStore(tmp_path / "stopped")
    with pytest.raises(Cancelled):
        train_dictionary(tiny, _prompts(), _spec(), store=store, monitor=stop)
    assert not store.ls()
    steps_seen = []

    class Watch:
        def update(self, stage, done, total, **figures):
            if stage == "training dictionaries":
                steps_seen.append(done)

    resumed = train_dictionary(tiny, _prompts(), _spec(), store=store, monitor=Watch())
    assert resumed.manifest.sha256 == whole.manifest.sha256
    assert steps_seen == ([] if first_step is None else list(range(first_step, 31)))


_KILLED_RUN = """
    import sys, time
    from pathlib import Path
    import torch
    torch.set_num_threads({threads})
    sys.path.insert(0, {root!r})
    from tests.conftest import byte_tokenizer, tiny_hf
    from tests.sae.test_training import _prompts, _spec
    from interpretops.artifacts import ArtifactStore
    from interpretops.models import HookedModel
    from interpretops.sae import train_dictionary
    class Slow:
        def update(self, stage, done, total, **figures):
            if stage == "training dictionaries":
                print(done, flush=True)
                time.sleep(0.05)
    model = HookedModel.from_hf(tiny_hf("llama"), byte_tokenizer(), name="tiny-llama")
    train_dictionary(model, _prompts(), _spec(), store=ArtifactStore(Path({store!r})),
                     monitor=Slow())
"""


def test_a_run_killed_with_sigkill_resumes_to_the_same_payload(tiny, tmp_path):
    root = Path(__file__).parents[2]
    program = textwrap.dedent(_KILLED_RUN).format(
        root=str(root),
        store=str(tmp_path / "killed"),
        # A sum's last bits may depend on how many threads share it.
        threads=torch.get_num_threads(),
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root.parent / "src"), *sys.path])}
    child = subprocess.Popen(
        [sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        for line in child.stdout:
            if int(line) >= 23:  # past the checkpoint at 20, inside a chunk
                break
        else:
            pytest.fail("the run ended before it could be killed")
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    store = ArtifactStore(tmp_path / "killed")
    assert not store.ls()
    first = []

    class Watch:
        def update(self, stage, done, total, **figures):
            if stage == "training dictionaries":
                first.append(done)

    resumed = train_dictionary(tiny, _prompts(), _spec(), store=store, monitor=Watch())
    assert first[0] == 21
    whole = train_dictionary(tiny, _prompts(), _spec(), store=ArtifactStore(tmp_path / "whole"))
    assert resumed.manifest.sha256 == whole.manifest.sha256


def test_refusals_name_the_way_out(tiny, make_tiny, store):
    def refusal(source=None, model=tiny, **changes):
        with pytest.raises(InterpretOpsError) as caught:
            train_dictionary(model, source or _prompts(), _spec(**changes), store=store)
        assert "\n" not in str(caught.value)
        assert not store.ls(ArtifactKind.DICTIONARY)
        return str(caught.value)

    assert "k is 64" in refusal(k=64)
    assert "fewer than one batch" in refusal(batch=10**6)
    assert "no site" in refusal(sites=("resid_post.99",))
    with pytest.raises(ValidationError, match="is not a site"):
        _spec(sites=("resid_post.",))
    assert "none can be held out" in refusal(source=_prompts(1))
    traced = trace(tiny, _prompts(), TraceSpec(sites=(SITES[0],)), store=store)
    assert "has no site resid_post.1" in refusal(source=traced)
    other = make_tiny("llama", seed=9)
    assert "another model" in refusal(source=traced, model=other, sites=(SITES[0],))


def test_a_model_that_gives_nan_is_refused(make_tiny, store):
    model = make_tiny("llama")
    with torch.no_grad():
        model.hf.model.layers[0].mlp.down_proj.weight.fill_(float("nan"))
    with pytest.raises(InterpretOpsError, match=r"resid_post\.0 are NaN or infinite\. Fix:"):
        train_dictionary(model, _prompts(), _spec(), store=store)
    assert not store.ls()


def test_a_layer_that_is_not_there_is_refused(tiny, store):
    made = train_dictionary(tiny, _prompts(), _spec(card_tokens=0), store=store)
    assert made.cards(0) == []
    with pytest.raises(InterpretOpsError, match=r"no site at 2\. Fix: choose one of resid_post\.0"):
        made.sae(2)


def test_every_stage_reports_its_steps_from_the_first_to_the_last(tiny, store):
    stages: dict[str, list[tuple[int, int]]] = {}

    class Watch:
        def update(self, stage, done, total, **figures):
            stages.setdefault(stage, []).append((done, total))

    spec = _spec(kind="topk", answer_tokens=4)
    made = train_dictionary(tiny, _prompts(), spec, store=store, monitor=Watch())
    n_sites = len(made.saes)
    for stage in ("answering prompts", "calibrating features", "evaluating dictionaries",
                  "describing features", "writing feature cards"):  # fmt: skip
        reports = stages[stage]
        assert len({total for _, total in reports}) == 1, f"{stage} changed its total"
        assert [done for done, _ in reports] == sorted({done for done, _ in reports})
        assert reports[0][0] == 0
        assert reports[-1][0] == reports[-1][1]
    cards = sum(len(made.cards(str(site))) for site in made.saes)
    assert stages["writing feature cards"][-1] == (cards, cards)
    assert stages["evaluating dictionaries"][-1][1] % (1 + 4 * n_sites) == 0
