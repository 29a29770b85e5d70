"""Tracing: right values, same bytes after an interruption, bounded memory, one-line errors."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from interpretops.artifacts import store as store_module
from interpretops.errors import Cancelled, InterpretOpsError
from interpretops.models import common_prefix
from interpretops.prompts import Prompt, PromptSet, Redactor
from interpretops.tracing import Trace, TraceSpec, trace
from interpretops.tracing.plan import make_plan

from . import interrupted

TEXTS = ["Hello", "A longer prompt, by far", "mid size one", "x", "caf\u00e9 \u2713 \U0001f600"]
SITES = ("resid_post.0", "z.1", "resid_mid.2")
EVERYWHERE = ("resid_post.0", "z.1", "mlp_out.2")  # parallel-residual models have no resid_mid


class Recorder:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int, dict[str, float]]] = []

    def update(self, stage: str, done: int, total: int, **figures: float) -> None:
        self.seen.append((stage, done, total, figures))


def test_values_are_those_of_a_capture_of_each_prompt_alone(tiny, store) -> None:
    got = trace(tiny, PromptSet.of(TEXTS), TraceSpec(sites=SITES, batch_size=3), store=store)
    for i, text in enumerate(TEXTS):
        alone = tiny.capture(tiny.encode([text]), SITES)
        rows = got.rows(i)
        assert got.tokens(i).tolist() == tiny.token_ids(text)
        for address, expected in alone.items():
            stored = got.activations(address)[rows.start : rows.stop]
            torch.testing.assert_close(stored, expected[0].cpu(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt_neox", "gpt2", "mistral", "gemma3_text", "olmo2"])
def test_padding_and_batching_change_no_value_on_any_architecture(
    make_tiny, store, architecture
) -> None:
    model = make_tiny(architecture)
    got = trace(model, PromptSet.of(TEXTS), TraceSpec(sites=EVERYWHERE), store=store)
    for i, text in enumerate(TEXTS):
        rows = got.rows(i)
        for address, expected in model.capture(model.encode([text]), EVERYWHERE).items():
            stored = got.activations(address)[rows.start : rows.stop]
            torch.testing.assert_close(stored, expected[0].cpu(), atol=1e-4, rtol=1e-4)


def test_last_position_is_where_the_answer_begins(tiny, store) -> None:
    spec = TraceSpec(sites=("resid_post.1",), positions="last")
    got = trace(tiny, PromptSet.of(TEXTS), spec, store=store)
    assert len(got) == len(TEXTS)
    for i, text in enumerate(TEXTS):
        alone = tiny.capture(tiny.encode([text]), ["resid_post.1"])
        (expected,) = alone.values()
        row = got.rows(i).start
        torch.testing.assert_close(
            got.activations("resid_post.1")[row], expected[0, -1].cpu(), atol=1e-5, rtol=1e-5
        )
        assert int(got.position_index[row]) == len(tiny.token_ids(text)) - 1


@pytest.mark.parametrize("system", [None, "Hello"])
def test_prompt_positions_leave_the_template_out(tiny, store, system) -> None:
    spec = TraceSpec(sites=("resid_post.1",), positions="prompt", system=system)
    got = trace(tiny, PromptSet.of(TEXTS), spec, store=store)
    for i, text in enumerate(TEXTS):
        positions = got.position_index[list(got.rows(i))]
        assert tiny.text(got.tokens(i)[positions]) == text


def test_rows_know_their_prompt_and_token(tiny, store) -> None:
    got = trace(tiny, PromptSet.of(TEXTS), TraceSpec(sites=SITES, batch_size=2), store=store)
    assert got.prompts.texts == TEXTS
    for i in range(len(TEXTS)):
        rows = list(got.rows(i))
        assert got.prompt_index[rows].tolist() == [i] * len(rows)
        assert got.position_index[rows].tolist() == list(range(len(got.tokens(i))))


def test_without_chat_the_text_is_plain_and_the_template_is_recorded(tiny, store) -> None:
    prompts = PromptSet.of(TEXTS)
    templated = trace(tiny, prompts, TraceSpec(sites=SITES), store=store)
    plain = trace(tiny, prompts, TraceSpec(sites=SITES, chat=False), store=store)
    assert templated.index.chat_template_sha256 is not None
    assert plain.index.chat_template_sha256 is None
    assert plain.tokens(0).tolist() == tiny.token_ids(TEXTS[0], chat=False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_values_are_stored_in_the_dtype_asked_for(tiny, store, dtype) -> None:
    got = trace(tiny, PromptSet.of(TEXTS), TraceSpec(sites=SITES, dtype=dtype), store=store)
    assert str(got.activations(SITES[0]).dtype) == f"torch.{dtype}"


def test_the_same_work_is_not_done_twice(tiny, store, monkeypatch) -> None:
    first = trace(tiny, PromptSet.of(TEXTS), TraceSpec(sites=SITES), store=store)
    monkeypatch.setattr(tiny.hf, "forward", None)  # any forward would fail
    again = trace(tiny, PromptSet.of(TEXTS), TraceSpec(sites=SITES), store=store)
    assert again.id == first.id


def test_other_prompts_spec_or_tokenizer_are_other_work(tiny, store) -> None:
    made = [
        trace(tiny, PromptSet.of(TEXTS), TraceSpec(sites=SITES), store=store),
        trace(tiny, PromptSet.of(TEXTS[:2]), TraceSpec(sites=SITES), store=store),
        trace(tiny, PromptSet.of(TEXTS), TraceSpec(sites=SITES[:1]), store=store),
    ]
    tiny.tokenizer.chat_template += "!"
    made.append(trace(tiny, PromptSet.of(TEXTS), TraceSpec(sites=SITES), store=store))
    assert len({found.id for found in made}) == 4


def test_progress_counts_prompts_and_tells_the_speed(tiny, store) -> None:
    recorder = Recorder()
    spec = TraceSpec(sites=SITES, batch_size=2)
    trace(tiny, PromptSet.of(TEXTS), spec, store=store, monitor=recorder)
    done = [step[1] for step in recorder.seen]
    assert done == sorted(done)
    assert recorder.seen[-1][1:3] == (5, 5)
    assert recorder.seen[-1][3]["tokens_per_s"] > 0


# --- interruption ---------------------------------------------------------------------------------


def killed(where: Path, die_at: str) -> None:
    # As many threads as here: sums that are shared otherwise round otherwise.
    threads = str(torch.get_num_threads())
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, interrupted.__file__, str(where), die_at],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Trace:
    folder = store_module.ArtifactStore(tmp_path_factory.mktemp("whole"))
    return trace(interrupted.model(), interrupted.prompts(), interrupted.SPEC, store=folder)


@pytest.mark.parametrize("die_at", ["forward:1", "forward:7", "write:1", "write:4"])
def test_killed_half_way_it_resumes_to_the_same_bytes(tmp_path, uninterrupted, die_at) -> None:
    assert len(uninterrupted.index.shards) > 5
    killed(tmp_path, die_at)
    folder = store_module.ArtifactStore(tmp_path)
    assert folder.ls() == []  # what is half done is not taken for whole
    (draft,) = (path for path in (tmp_path / "drafts").iterdir() if path.is_dir())
    finished = {path.name: path.stat().st_ino for path in draft.glob("shard-*")}
    recorder = Recorder()
    model, prompts = interrupted.model(), interrupted.prompts()
    resumed = trace(model, prompts, interrupted.SPEC, store=folder, monitor=recorder)
    assert resumed.manifest.sha256 == uninterrupted.manifest.sha256
    kept = {name: (resumed.folder / name).stat().st_ino for name in finished}
    assert kept == finished
    forwards = [step for step in recorder.seen if step[3]]
    batches_left = sum(
        len(shard.batches)
        for shard, entry in zip(plan_of(resumed).shards, resumed.index.shards, strict=True)
        if entry.file not in finished
    )
    assert len(forwards) == batches_left


def plan_of(made: Trace):
    lengths = [len(made.tokens(i)) for i in range(len(made.prompts))]
    row_bytes = 4 * sum(made.index.sites.values())
    return make_plan(
        lengths,
        lengths,
        batch_tokens=made.spec.batch_tokens,
        batch_size=made.spec.batch_size,
        shard_rows=int(made.spec.shard_mb * 2**20 / row_bytes),
    )


def test_cancelled_it_keeps_finished_shards(tmp_path, uninterrupted) -> None:
    class Stop(Recorder):
        def update(self, stage, done, total, **figures) -> None:
            super().update(stage, done, total, **figures)
            if done > total // 2:
                raise Cancelled(stage)

    folder = store_module.ArtifactStore(tmp_path)
    model, prompts = interrupted.model(), interrupted.prompts()
    with pytest.raises(Cancelled):
        trace(model, prompts, interrupted.SPEC, store=folder, monitor=Stop())
    recorder = Recorder()
    resumed = trace(model, prompts, interrupted.SPEC, store=folder, monitor=recorder)
    assert recorder.seen[0][1] > 0
    assert resumed.manifest.sha256 == uninterrupted.manifest.sha256


def test_a_shard_that_was_cut_short_in_the_draft_is_made_again(tmp_path, uninterrupted) -> None:
    killed(tmp_path, "write:4")
    shard = next((tmp_path / "drafts").glob("*/shard-00000*"))
    shard.write_bytes(shard.read_bytes()[:-100])
    folder = store_module.ArtifactStore(tmp_path)
    resumed = trace(interrupted.model(), interrupted.prompts(), interrupted.SPEC, store=folder)
    assert resumed.manifest.sha256 == uninterrupted.manifest.sha256


# --- what goes wrong ------------------------------------------------------------------------------


def test_out_of_memory_halves_the_batch_at_its_padding(
    tmp_path, uninterrupted, monkeypatch
) -> None:
    model = interrupted.model()
    genuine, shapes = model.hf.forward, []

    def forward(*args, **kwargs):
        rows, width = kwargs["input_ids"].shape
        if rows > 2:
            raise torch.OutOfMemoryError("out of memory")
        shapes.append((rows, width))
        return genuine(*args, **kwargs)

    monkeypatch.setattr(model.hf, "forward", forward)
    folder = store_module.ArtifactStore(tmp_path)
    prompts = interrupted.prompts()
    got = trace(model, prompts, interrupted.SPEC, store=folder)
    shared = len(common_prefix([model.token_ids(prompt.text) for prompt in prompts]))
    widths = {b.width - shared for s in plan_of(got).shards for b in s.batches}
    # A single token tells how wide the sites are. What is shared is run alone: for its keys and values,
    # and for what is at the sites.
    for alone in (1, shared, shared):
        shapes.remove((1, alone))
    assert {width for _, width in shapes} == widths
    for name in got.index.sites:
        torch.testing.assert_close(
            got.activations(name)[:], uninterrupted.activations(name)[:], atol=1e-5, rtol=1e-5
        )


def test_halved_and_interrupted_it_still_resumes_to_the_same_bytes(tmp_path, monkeypatch) -> None:
    """Every batch starts at its planned size again, so the same lack of memory halves it alike."""
    model, prompts = interrupted.model(), interrupted.prompts()
    genuine = model.hf.forward

    def forward(*args, **kwargs):
        if len(kwargs["input_ids"]) > 1:
            raise MemoryError
        return genuine(*args, **kwargs)

    class Stop(Recorder):
        def update(self, stage, done, total, **figures) -> None:
            if done > total // 2:
                raise Cancelled(stage)

    monkeypatch.setattr(model.hf, "forward", forward)
    whole = trace(
        model, prompts, interrupted.SPEC, store=store_module.ArtifactStore(tmp_path / "a")
    )
    folder = store_module.ArtifactStore(tmp_path / "b")
    with pytest.raises(Cancelled):
        trace(model, prompts, interrupted.SPEC, store=folder, monitor=Stop())
    resumed = trace(model, prompts, interrupted.SPEC, store=folder)
    assert resumed.manifest.sha256 == whole.manifest.sha256


def test_a_prompt_that_never_fits_is_an_error(tiny, store, monkeypatch) -> None:
    def forward(*args, **kwargs):
        if kwargs["input_ids"].shape[1] > 1:
            raise torch.OutOfMemoryError("out of memory")
        return genuine(*args, **kwargs)

    genuine = tiny.hf.forward
    monkeypatch.setattr(tiny.hf, "forward", forward)
    with pytest.raises(InterpretOpsError, match="Fix: "):
        trace(tiny, PromptSet.of(TEXTS), TraceSpec(sites=SITES), store=store)


def full_disk(after: int):
    genuine, count = store_module.write_atomically, itertools.count()

    def write(path, data) -> None:
        if path.name.startswith("shard") and next(count) >= after:
            path.with_name(f".{path.name}.partial").write_bytes(data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        genuine(path, data)

    return write


def test_a_full_disk_is_one_line_and_the_rest_is_resumed(
    tmp_path, uninterrupted, monkeypatch
) -> None:
    folder = store_module.ArtifactStore(tmp_path)
    model, prompts = interrupted.model(), interrupted.prompts()
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_atomically", full_disk(2))
        with pytest.raises(InterpretOpsError, match=r"full.*Fix: free space"):
            trace(model, prompts, interrupted.SPEC, store=folder)
    assert folder.ls() == []
    resumed = trace(model, prompts, interrupted.SPEC, store=folder)
    assert resumed.manifest.sha256 == uninterrupted.manifest.sha256


def test_too_little_space_is_said_before_any_work(tiny, store, monkeypatch) -> None:
    monkeypatch.setattr(
        "interpretops.tracing.tracer.shutil.disk_usage", lambda _: type("U", (), {"free": 100})
    )
    with pytest.raises(InterpretOpsError, match=r"GiB free.*Fix: "):
        trace(tiny, PromptSet.of(TEXTS), TraceSpec(sites=SITES), store=store)
    assert store.ls() == []


@pytest.mark.parametrize(("value", "says"), [("nan", "NaN"), ("inf", "infinite")])
def test_values_that_are_not_finite_name_prompt_and_site(tiny, store, value, says) -> None:
    poisoned = tiny.token_ids("x", chat=False)[0]
    with torch.no_grad():
        tiny.hf.get_input_embeddings().weight[poisoned] = float(value)
    prompts = PromptSet(
        prompts=(Prompt(id="good", text="yyyy"), Prompt(id="bad", text="yyxy")), source="test"
    )
    spec = TraceSpec(sites=("resid_pre.0",), chat=False)
    with pytest.raises(InterpretOpsError) as caught:
        trace(tiny, prompts, spec, store=store)
    message = str(caught.value)
    assert "'bad'" in message
    assert "resid_pre.0" in message
    assert "token 2" in message
    assert says in message
    assert store.ls() == []


def test_a_value_beyond_float16_says_so(tiny, store) -> None:
    with torch.no_grad():
        tiny.hf.get_input_embeddings().weight.mul_(1e6)
    with pytest.raises(InterpretOpsError, match=r"float16.*bfloat16"):
        trace(
            tiny,
            PromptSet.of(TEXTS),
            TraceSpec(sites=("resid_pre.0",), dtype="float16"),
            store=store,
        )


def test_a_prompt_beyond_the_context_is_named(tiny, store) -> None:
    prompts = PromptSet(prompts=(Prompt(id="huge", text="y" * 300),), source="test")
    with pytest.raises(InterpretOpsError, match=r"'huge' has 3.. tokens but 256.*truncate"):
        trace(tiny, prompts, TraceSpec(sites=SITES), store=store)


def test_truncation_cuts_the_text_and_keeps_the_template(tiny, store) -> None:
    prompts = PromptSet(prompts=(Prompt(id="huge", text="y" * 300),), source="test")
    got = trace(tiny, prompts, TraceSpec(sites=SITES, truncate=True, max_tokens=100), store=store)
    whole, cut = tiny.token_ids("y" * 300), got.tokens(0).tolist()
    assert len(cut) == 100
    kept = tiny.text(got.tokens(0)).count("y")
    assert cut == tiny.token_ids("y" * kept)
    assert len(whole) > len(cut)
    assert got.manifest.summary["truncated"] == 1


@pytest.mark.parametrize(
    "spec",
    [
        {"sites": ()},
        {"sites": ("no site",)},
        {"sites": SITES, "positions": "first"},
        {"sites": SITES, "shard_mb": 0},
        {"sites": SITES, "colour": "red"},
    ],
)
def test_a_bad_spec_is_refused(spec) -> None:
    with pytest.raises(ValueError, match="TraceSpec"):
        TraceSpec(**spec)


def test_sites_the_model_lacks_and_no_prompts_are_one_line(tiny, store) -> None:
    with pytest.raises(InterpretOpsError, match="Fix: "):
        trace(tiny, PromptSet.of(TEXTS), TraceSpec(sites=("resid_post.99",)), store=store)
    with pytest.raises(InterpretOpsError, match="Fix: "):
        trace(tiny, PromptSet.of(TEXTS), TraceSpec(sites=("resid_past.1",)), store=store)
    with pytest.raises(InterpretOpsError, match=r"row per token.*Fix: |Fix: .*eager"):
        trace(tiny, PromptSet.of(TEXTS), TraceSpec(sites=("attn_probs.1",)), store=store)
    with pytest.raises(InterpretOpsError, match="Fix: "):
        trace(tiny, PromptSet.of([]), TraceSpec(sites=SITES), store=store)
    made = trace(tiny, PromptSet.of(TEXTS), TraceSpec(sites=SITES), store=store)
    with pytest.raises(InterpretOpsError, match="has no site"):
        made.activations("mlp_out.0")


def test_nothing_that_was_redacted_touches_the_disk(tiny, store, tmp_path) -> None:
    prompts = PromptSet.of(["mail jane@example.org about it"]).redact(Redactor(person_model=None))
    made = trace(tiny, prompts, TraceSpec(sites=SITES), store=store)
    assert made.manifest.redactions == {"EMAIL": 1}
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"jane" not in written
    assert b"[EMAIL]" in written
    assert "jane" not in tiny.text(made.tokens(0))


# --- memory ---------------------------------------------------------------------------------------

_MEASURE = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import interrupted
from interpretops.artifacts import ArtifactStore
from interpretops.prompts import PromptSet
from interpretops.tracing import TraceSpec, trace
spec = TraceSpec(sites=tuple(f"{{s}}.{{l}}" for s in ("resid_pre", "resid_post", "z", "mlp_out",
    "attn_out") for l in range(3)), shard_mb=4, batch_tokens=1024)
store = ArtifactStore(Path({store!r}))
model = interrupted.model()
def peak(prompts):
    text = "w" * 180
    made = trace(model, PromptSet.of(f"{{n}} {{text}}" for n in range(prompts)), spec, store=store)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, made.manifest.size / 2**20
small = peak(60)
large = peak(600)
print(small[0], small[1], large[0], large[1])
"""


def test_memory_follows_the_setting_and_not_the_number_of_prompts(tmp_path) -> None:
    folder = str(Path(interrupted.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE.format(folder=folder, store=str(tmp_path))],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    small_rss, small_payload, large_rss, large_payload = map(float, done.stdout.split())
    assert large_payload - small_payload > 150  # MiB more on disk ...
    assert large_rss - small_rss < 30  # ... and next to none in memory


# --- the plan -------------------------------------------------------------------------------------


def test_a_plan_holds_every_prompt_once_within_its_limits() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 300, size=500).tolist()
    plan = make_plan(lengths, lengths, batch_tokens=1000, batch_size=16, shard_rows=2000)
    batches = [batch for shard in plan.shards for batch in shard.batches]
    assert sorted(p for batch in batches for p in batch.prompts) == list(range(500))
    for batch in batches:
        assert batch.width == max(lengths[p] for p in batch.prompts)
        assert len(batch.prompts) <= 16
        assert len(batch.prompts) * batch.width <= 1000
        assert batch.rows == sum(lengths[p] for p in batch.prompts)
    assert all(shard.rows <= 2000 for shard in plan.shards)
    starts = plan.row_starts(np.asarray(lengths))
    spans = sorted((int(s), int(s) + n) for s, n in zip(starts, lengths, strict=True))
    assert spans[0][0] == 0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))


def test_a_prompt_longer_than_every_limit_is_alone() -> None:
    plan = make_plan([5000, 3], [5000, 3], batch_tokens=1000, batch_size=16, shard_rows=100)
    assert sorted(batch.prompts for s in plan.shards for batch in s.batches) == [(0,), (1,)]
