"""One list of promises, held by every architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from interp_engine.capture import capture as engine_capture
from interpretops.errors import InterpretOpsError
from interpretops.models import Address, HookedModel, Prefix, Sampling, site
from transformers import AutoConfig, AutoModelForCausalLM

from ..conftest import ARCHITECTURES, DEVICE, byte_tokenizer, tiny_hf

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPTS = ["Hi", "How are you today?", "Name three colours, please."]
SEQUENTIAL = [name for name in ARCHITECTURES if name != "gpt_neox"]


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def model(architecture: str, make_tiny: Callable[..., HookedModel]) -> HookedModel:
    return make_tiny(architecture)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=1e-4)


def contributions(model: HookedModel, batch: Any, layer: int) -> dict[str, torch.Tensor]:
    names = ("resid_pre", "attn_out_post", "mlp_out_post", "resid_post", "z", "attn_out")
    found = model.capture(batch, [Address(name, layer) for name in names])
    return {address.name: value for address, value in found.items()}


def test_logits_are_bit_identical_without_hooks(architecture: str, model: HookedModel) -> None:
    bare = tiny_hf(architecture)
    batch = model.encode(PROMPTS[1:2])
    with torch.no_grad():
        expected = bare(input_ids=batch.input_ids, use_cache=False).logits
        assert torch.equal(model.logits(batch), expected)
        with model.hooks() as hooks:
            hooks.write("resid_post.1", lambda x: x + 1)
        assert torch.equal(model.logits(batch), expected), "hooks left a trace"
    assert expected.std() > 1e-3, "a constant model would pass anything"


def test_hooks_leave_no_trace_after_an_exception(model: HookedModel) -> None:
    batch = model.encode(PROMPTS[:1])
    before = model.logits(batch)

    def explode(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"), model.hooks() as hooks:
        hooks.write("resid_post.1", explode)
        model.logits(batch)
    assert model.running is None
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in model.hf.modules()
    )
    assert torch.equal(model.logits(batch), before)


def test_the_residual_stream_adds_up(model: HookedModel) -> None:
    batch = model.encode(PROMPTS[1:2])
    for layer in range(model.n_layers):
        at = contributions(model, batch, layer)
        close(at["resid_post"], at["resid_pre"] + at["attn_out_post"] + at["mlp_out_post"])
        if layer:
            before = model.capture(batch, [Address("resid_post", layer - 1)])
            close(at["resid_pre"], next(iter(before.values())))


def test_heads_sum_to_attn_out(model: HookedModel) -> None:
    batch = model.encode(PROMPTS[1:2])
    at = contributions(model, batch, 1)
    weights = model.head_weights(1)
    assert weights.shape == (model.n_heads, model.head_dim, model.d_model)
    z = at["z"].unflatten(-1, (model.n_heads, model.head_dim))
    total = torch.einsum("bshd,hdm->bsm", z, weights)
    bias = getattr(model.arch.attn_out_proj(1), "bias", None)
    close(at["attn_out"], total if bias is None else total + bias)


def test_unembedding_the_final_residual_gives_the_logits(model: HookedModel) -> None:
    batch = model.encode(PROMPTS[1:2])
    last = Address("resid_post", model.n_layers - 1)
    close(model.unembed(model.capture(batch, [last])[last]), model.logits(batch))


def test_capture_agrees_with_interp_engine(model: HookedModel) -> None:
    batch = model.encode(PROMPTS[1:2])
    sites = [Address("resid_post", 0), Address("z", 1), Address("mlp_out", 2)]
    theirs = engine_capture(model._engine, batch.input_ids, sites)
    for address, value in model.capture(batch, sites).items():
        close(value.reshape(-1), theirs.get(address.name, address.layer).reshape(-1))


@pytest.mark.parametrize("name", ["resid_pre", "attn_out", "mlp_out", "z", "resid_post"])
def test_a_write_is_what_the_next_site_sees(model: HookedModel, name: str) -> None:
    batch = model.encode(PROMPTS[1:2])
    seen: dict[str, torch.Tensor] = {}
    written = torch.full_like(model.capture(batch, [Address(name, 1)])[Address(name, 1)], 0.5)
    with model.hooks() as hooks:
        hooks.write(Address(name, 1), lambda x: written)
        hooks.read(Address(name, 1), lambda x: seen.__setitem__("same", x))
        hooks.read(Address("resid_post", 1), lambda x: seen.__setitem__("after", x))
        for other in ("resid_pre", "attn_out_post", "mlp_out_post"):
            hooks.read(Address(other, 1), lambda x, other=other: seen.__setitem__(other, x))
        model.logits(batch)
    close(seen["same"], written)
    if name == "resid_post":
        close(seen["after"], written)
    else:
        close(seen["after"], seen["resid_pre"] + seen["attn_out_post"] + seen["mlp_out_post"])
        clean = model.capture(batch, [Address("resid_post", 1)])[Address("resid_post", 1)]
        assert (seen["after"] - clean).abs().max() > 1e-4


def test_a_write_at_resid_mid_reaches_the_residual_stream(
    make_tiny: Callable[..., HookedModel],
) -> None:
    for architecture in SEQUENTIAL:
        model = make_tiny(architecture)
        batch = model.encode(PROMPTS[1:2])
        clean = model.capture(batch, ["resid_mid.1", "mlp_out_post.1", "resid_post.1"])
        shift = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0)).to(DEVICE)
        seen: dict[str, torch.Tensor] = {}
        with model.hooks() as hooks:
            hooks.write("resid_mid.1", lambda x, shift=shift: x + shift)
            for name in ("mlp_out_post", "resid_post", "resid_mid"):
                hooks.read(Address(name, 1), lambda x, name=name: seen.__setitem__(name, x))
            model.logits(batch)
        close(seen["resid_mid"], clean[site("resid_mid.1")] + shift)
        close(seen["resid_post"], seen["resid_mid"] + seen["mlp_out_post"])


def test_a_supplied_value_is_a_written_one_without_its_module(model: HookedModel) -> None:
    batch = model.encode(PROMPTS[1:2])
    at = Address("mlp_out_post", 1)
    value = torch.randn(1, batch.input_ids.shape[1], model.d_model, device=DEVICE)
    ran: list[object] = []
    module, _ = model.hooks()._resolve(at)
    for inner in module.children():
        inner.register_forward_hook(lambda *_: ran.append(None))
    with model.hooks() as hooks:
        hooks.write(at, lambda _: value)
        expected = model.logits(batch)
    with model.hooks() as hooks:
        hooks.supply(at, value)
        assert torch.equal(model.logits(batch), expected)
        ran.clear()  # the first time it ran, to tell what it returns
        assert torch.equal(model.logits(batch), expected)
    assert not ran
    assert not any("forward" in vars(module) for module in model.hf.modules())


def test_resid_mid_is_refused_where_there_is_none(make_tiny: Callable[..., HookedModel]) -> None:
    model = make_tiny("gpt_neox")
    with pytest.raises(InterpretOpsError, match=r"no site resid_mid\.1"):
        model.capture(model.encode(["Hi"]), ["resid_mid.1"])


def test_gradients_flow_through_reads_and_writes(model: HookedModel) -> None:
    batch = model.encode(PROMPTS[1:2])
    address = Address("resid_post", 0)
    shift = torch.zeros(model.d_model, requires_grad=True, device=DEVICE)
    read: list[torch.Tensor] = []
    with model.hooks() as hooks:
        hooks.write(address, lambda x: x + shift)
        hooks.read(Address("resid_post", 1), read.append)
        target = model.logits(batch)[0, -1, 7]
    (from_write,) = torch.autograd.grad(target, shift, retain_graph=True)
    (from_read,) = torch.autograd.grad(target, read[0])
    assert from_write.abs().sum() > 0
    assert from_read.abs().sum() > 0
    step = 1e-2 * from_write / from_write.norm()
    with torch.no_grad(), model.hooks() as hooks:
        hooks.write(address, lambda x: x + step)
        moved = model.logits(batch)[0, -1, 7]
    predicted = float(from_write @ step)
    assert float((moved - target).detach()) == pytest.approx(predicted, rel=0.15)


@pytest.mark.parametrize("before", ["", "Once upon a time"])
def test_a_resumed_forward_ends_as_a_whole_one(model: HookedModel, before: str) -> None:
    prefix = Prefix.run(model, model.token_ids(before) if before else [])
    batch = model.encode(PROMPTS, padding_side="right")
    seen = torch.ones(len(batch), prefix.length, dtype=torch.int64, device=DEVICE)
    at = Address("resid_post", 1)
    known = model.capture(batch, [at], after=prefix)[at]

    def run(*, resumed: bool) -> tuple[torch.Tensor, torch.Tensor]:
        shift = torch.linspace(-1, 1, model.d_model, device=DEVICE, requires_grad=True)
        with model.hooks() as hooks:
            if resumed:
                hooks.resume(1, known)
            hooks.write(at, lambda x: x + shift)
            logits = model.forward(
                batch.input_ids,
                attention_mask=torch.cat([seen, batch.attention_mask], dim=1),
                position_ids=batch.position_ids + prefix.length,
                cache=prefix.cache(len(batch)),
            )
        (gradient,) = torch.autograd.grad(logits[0, -1, 7], shift)
        return logits.detach(), gradient

    for found, expected in zip(run(resumed=True), run(resumed=False), strict=True):
        close(found, expected)


@pytest.mark.parametrize("steered", [False, True])
def test_generation_with_the_cache_equals_generation_without(
    model: HookedModel, *, steered: bool
) -> None:
    model.end_ids = torch.tensor(
        [], dtype=torch.int64, device=DEVICE
    )  # let every row run its full length
    batch = model.encode(PROMPTS[1:2])
    with model.hooks() as hooks:
        if steered:
            direction = torch.linspace(-1, 1, model.d_model, device=DEVICE)
            hooks.write("resid_post.1", lambda x: x + direction)
        cached = [int(step.tokens[0]) for step in model.stream(batch, 12)]
        ids = batch.input_ids
        for _ in range(12):
            longer = type(batch).from_ids([ids[0].tolist()], pad_id=model.pad_id, device=DEVICE)
            uncached = model.logits(longer, last_only=True)
            ids = torch.cat([ids, uncached.argmax(-1, keepdim=True)], dim=-1)
    assert cached == ids[0, batch.input_ids.shape[1] :].tolist()


def test_greedy_decoding_returns_the_tokens_of_generate(model: HookedModel) -> None:
    batch = model.encode(PROMPTS)
    with torch.no_grad():
        theirs = model.hf.generate(
            batch.input_ids,
            attention_mask=batch.attention_mask,
            max_new_tokens=10,
            do_sample=False,
            pad_token_id=model.pad_id,
            eos_token_id=model.end_ids.tolist(),
        )[:, batch.input_ids.shape[1] :]
    ours = torch.stack([step.tokens for step in model.stream(batch, 10)], dim=1)
    assert ours.tolist() == theirs.tolist()


def test_padding_does_not_change_a_prompts_values(model: HookedModel) -> None:
    sites = [Address("resid_post", 1), Address("z", 2), Address("mlp_out", 0)]
    for side in ("left", "right"):
        batch = model.encode(PROMPTS, padding_side=side)
        assert batch.padded
        together = model.capture(batch, sites)
        logits = model.logits(batch, last_only=True)
        for row, prompt in enumerate(PROMPTS):
            alone = model.encode([prompt])
            span = slice(int(batch.first[row]), int(batch.last[row]) + 1)
            for address, value in model.capture(alone, sites).items():
                close(together[address][row, span], value[0], 2e-4)
            close(logits[row], model.logits(alone, last_only=True)[0], 2e-4)


def test_architectures_whose_layers_return_tuples_can_be_resumed() -> None:
    settings = {"vocab_size": 260, "hidden_size": 32, "num_hidden_layers": 3}
    hf = (
        AutoModelForCausalLM.from_config(
            AutoConfig.for_model("falcon", **settings, num_attention_heads=4)
        )
        .to(DEVICE)
        .eval()
    )
    model = HookedModel.from_hf(hf, byte_tokenizer())
    batch = model.encode(PROMPTS[1:2])
    known = model.capture(batch, [Address("resid_post", 1)])
    expected = model.logits(batch)
    with model.hooks() as hooks:
        hooks.resume(1, known[Address("resid_post", 1)])
        close(model.logits(batch), expected)


def test_sampling_is_reproducible_and_varied(tiny: HookedModel) -> None:
    def draw(seed: int) -> str:
        return tiny.generate("Hi", 24, sampling=Sampling(temperature=1.0, top_p=0.9, seed=seed))

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(6)}) > 1


def test_attention_patterns_are_rows_of_probabilities() -> None:
    hf = tiny_hf("llama")
    hf.set_attn_implementation("eager")
    model = HookedModel.from_hf(hf, byte_tokenizer())
    batch = model.encode(PROMPTS[1:2])
    pattern = model.capture(batch, ["attn_probs.1"])[site("attn_probs.1")]
    close(pattern.sum(-1), torch.ones_like(pattern[..., 0]))
