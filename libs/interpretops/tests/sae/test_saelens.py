"""SAELens' format, against files SAELens wrote and, where it is installed, against SAELens itself.

The live tests run SAELens in its own interpreter, because its pins need not agree with ours:
`INTERPRETOPS_SAELENS_PYTHON`, or the benchmarks' environment for it.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from interp_engine import Address
from interpretops.errors import InterpretOpsError
from interpretops.sae import (
    DictionarySpec,
    Kind,
    SAETrainer,
    TensorActivations,
    TrainingRule,
    fit,
    new_sae,
)
from interpretops.sae.calibration import calibrate_thresholds
from interpretops.sae.saelens import address_of, hook_name, load_saelens, save_saelens
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
GOLDEN = HERE / "saelens_golden"
SITE = Address("resid_post", 3)

_VENV = HERE.parents[3] / "benchmarks/.venvs/sae-lens/bin/python"
PEER = Path(os.environ.get("INTERPRETOPS_SAELENS_PYTHON", _VENV))
needs_peer = [
    pytest.mark.peer,
    pytest.mark.skipif(not PEER.exists(), reason="SAELens is not installed beside ours"),
]


def _trained(kind):
    g = torch.Generator().manual_seed(3)
    directions = torch.randn(24, 8, generator=g)
    x = (torch.rand(4000, 24, generator=g) < 0.1).float() @ directions + 1.0
    spec = DictionarySpec(
        kind=kind, sites=(str(SITE),), d_sae=16, k=3, tokens=4000, batch=200, lr=3e-3
    )
    sae = fit(TensorActivations({SITE: x}), spec)[SITE]
    if kind is Kind.TOPK:
        calibrate_thresholds(sae, x)
    return sae, x[:50]


@pytest.mark.parametrize("name", sorted(p.name for p in GOLDEN.iterdir()))
def test_a_dictionary_saelens_wrote_gives_what_saelens_computed(name):
    sae = load_saelens(GOLDEN / name)
    expected = load_file(GOLDEN / name / "expected.safetensors")
    assert sae.address == SITE
    code = sae.encode(expected["input"])
    torch.testing.assert_close(code, expected["activations"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.decode(code), expected["reconstruction"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        sae(expected["input"]), expected["reconstruction"], rtol=1e-5, atol=1e-5
    )
    assert 0 < float((code > 0).float().mean()) < 1


def test_the_golden_kinds_are_read_as_what_they_were_trained_as():
    kinds = {name.name: load_saelens(name).kind for name in GOLDEN.iterdir()}
    assert kinds["topk"] == Kind.TOPK
    assert kinds["batchtopk"] == Kind.BATCH_TOPK
    assert kinds["jumprelu"] == kinds["standard"] == Kind.JUMPRELU
    assert kinds["gated"] == Kind.GATED


@pytest.mark.parametrize("kind", list(Kind))
def test_what_we_write_has_the_names_and_shapes_saelens_writes(kind, tmp_path):
    sae, _ = _trained(kind)
    save_saelens(sae, tmp_path, model_name="tiny", context_size=32)
    golden = GOLDEN / {Kind.BATCH_TOPK: "batchtopk"}.get(kind, kind.value)
    theirs = load_file(golden / "sae_weights.safetensors")
    ours = load_file(tmp_path / "sae_weights.safetensors")
    assert {k: (v.shape, v.dtype) for k, v in ours.items()} == {
        k: (v.shape, v.dtype) for k, v in theirs.items()
    }
    config = json.loads((tmp_path / "cfg.json").read_text())
    reference = json.loads((golden / "cfg.json").read_text())
    assert config.keys() == reference.keys()
    assert config["architecture"] == reference["architecture"]
    assert config["metadata"]["hook_name"] == reference["metadata"]["hook_name"]


@pytest.mark.parametrize("kind", list(Kind))
def test_our_own_files_read_back_unchanged(kind, tmp_path):
    sae, x = _trained(kind)
    again = load_saelens(save_saelens(sae, tmp_path))
    assert again.kind == kind
    assert again.address == SITE
    assert again.input_scale == pytest.approx(sae.input_scale)
    assert torch.equal(again.encode(x), sae.encode(x))
    assert torch.equal(again.encode_features(x, [2, 9]), sae.encode_features(x, [2, 9]))
    assert again.W_enc.t().is_contiguous()  # a feature's encoder column is one row of memory


def test_a_flat_config_from_before_version_6_is_read(tmp_path):
    for file in ("sae_weights.safetensors", "expected.safetensors"):
        (tmp_path / file).write_bytes((GOLDEN / "standard" / file).read_bytes())
    old = {
        "d_in": 8,
        "d_sae": 16,
        "hook_point": "blocks.3.hook_resid_post",
        "activation_fn_str": "relu",
        "normalize_activations": False,
    }
    (tmp_path / "cfg.json").write_text(json.dumps(old))
    sae = load_saelens(tmp_path)
    expected = load_file(tmp_path / "expected.safetensors")
    torch.testing.assert_close(sae.encode(expected["input"]), expected["activations"])
    assert sae.address == SITE


@pytest.mark.parametrize(
    "text",
    ["resid_pre.0", "resid_mid.4", "resid_post.12", "attn_out.3", "mlp_out.7", "z.2", "mlp_in.5"],
)
def test_site_names_survive_translation(text):
    name, layer = text.split(".")
    address = Address(name, int(layer))
    assert address_of(hook_name(address)) == address


def _broken(tmp_path, **config):
    folder = tmp_path / "broken"
    folder.mkdir()
    reference = json.loads((GOLDEN / "topk" / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps({**reference, **config}))
    weights = (GOLDEN / "topk" / "sae_weights.safetensors").read_bytes()
    (folder / "sae_weights.safetensors").write_bytes(weights)
    return folder


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path):
    def refusal(folder):
        with pytest.raises(InterpretOpsError) as caught:
            load_saelens(folder)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "cfg.json is missing" in refusal(tmp_path / "nowhere")
    folder = _broken(tmp_path, architecture="temporal")
    assert "architecture 'temporal' cannot be read" in refusal(folder)
    (folder / "cfg.json").write_text("{")
    assert "damaged" in refusal(folder)
    (folder / "cfg.json").write_bytes((GOLDEN / "topk" / "cfg.json").read_bytes())
    whole = (folder / "sae_weights.safetensors").read_bytes()
    (folder / "sae_weights.safetensors").write_bytes(whole[:-40])
    assert "damaged" in refusal(folder)
    tensors = load_file(GOLDEN / "topk" / "sae_weights.safetensors")
    save_file(
        {k: v for k, v in tensors.items() if k != "b_enc"}, folder / "sae_weights.safetensors"
    )
    assert "b_enc" in refusal(folder)
    (folder / "sae_weights.safetensors").write_bytes(whole)
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps({**config, "normalize_activations": "layer_norm"}))
    assert "layer_norm" in refusal(folder)
    (folder / "cfg.json").write_text(json.dumps({**config, "d_sae": 12}))
    assert "do not fit" in refusal(folder)


_LOAD_IN_SAELENS = """
import sys
from safetensors.torch import load_file, save_file
from sae_lens import SAE
folder, out = sys.argv[1:]
sae = SAE.load_from_disk(folder)
code = sae.encode(load_file(folder + "/input.safetensors")["input"])
save_file({"activations": code.detach().contiguous(),
           "reconstruction": sae.decode(code).detach().contiguous()}, out)
"""

_TRAIN_IN_SAELENS = """
import sys
import torch
from safetensors.torch import load_file, save_file
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
source, out = sys.argv[1:]
given = load_file(source)
x = given.pop("input")
batch, steps = 64, x.shape[0] // 64
sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=x.shape[1], d_sae=given["b_enc"].shape[0], k=4))
sae.load_state_dict(given)
config = SAETrainerConfig(
    n_checkpoints=0, checkpoint_path=None, save_final_checkpoint=False,
    total_training_samples=x.shape[0], device="cpu", autocast=False, lr=1e-3, lr_end=1e-3,
    lr_scheduler_name="constant", lr_warm_up_steps=0, adam_beta1=0.9, adam_beta2=0.999,
    lr_decay_steps=0, n_restart_cycles=1, train_batch_size_samples=batch, dead_feature_window=5,
    feature_sampling_window=10**6, logger=LoggingConfig(log_to_wandb=False))
trainer = SAETrainer(config, sae, iter(()))
losses = []
for i in range(steps):
    losses.append(float(trainer.step(x[i * batch:(i + 1) * batch]).loss))
    trainer.n_training_steps += 1
result = {k: v.detach().contiguous() for k, v in sae.state_dict().items()}
save_file({**result, "losses": torch.tensor(losses)}, out)
"""


def _in_peer(program, *arguments):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(PEER), "-c", program, *map(str, arguments)],
        env={**env, "WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


class TestAgainstSAELens:
    pytestmark = needs_peer

    @pytest.mark.parametrize("kind", list(Kind))
    def test_saelens_loads_ours_and_computes_the_same(self, kind, tmp_path):
        sae, x = _trained(kind)
        save_saelens(sae, tmp_path, model_name="tiny")
        save_file({"input": x}, tmp_path / "input.safetensors")
        _in_peer(_LOAD_IN_SAELENS, tmp_path, tmp_path / "out.safetensors")
        theirs = load_file(tmp_path / "out.safetensors")
        code = sae.encode(x)
        torch.testing.assert_close(code, theirs["activations"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(sae.decode(code), theirs["reconstruction"], rtol=1e-5, atol=1e-5)

    def test_our_training_steps_are_saelens_training_steps(self, tmp_path):
        """Same start, same data, same rules, revival of dead features included: same weights."""
        torch.manual_seed(0)
        rule = TrainingRule(
            k=4,
            lr=1e-3,
            warmup=0,
            decay=0,
            decoder_norm="rescale",
            aux_coefficient=1.0,
            dead_after_tokens=6 * 64,  # SAELens: more than 5 steps without firing
        )
        sae = new_sae(rule, 16, 96)
        with torch.no_grad():
            sae.W_dec *= 0.1
            sae.W_enc *= 0.1
            sae.b_enc[:40] = -0.5
        x = (torch.rand(64 * 40, 48) < 0.1).float() @ torch.randn(48, 16)
        start = {name: p.detach().clone().contiguous() for name, p in sae.named_parameters()}
        save_file({**start, "input": x}, tmp_path / "start.safetensors")
        trainer = SAETrainer(sae, rule, total_steps=40, batch=64)
        figures = [trainer.step(x[i * 64 : (i + 1) * 64]) for i in range(40)]
        assert max(float(f.dead_share) for f in figures) > 0.2
        _in_peer(_TRAIN_IN_SAELENS, tmp_path / "start.safetensors", tmp_path / "end.safetensors")
        theirs = load_file(tmp_path / "end.safetensors")
        losses = torch.stack([f.loss for f in figures])
        torch.testing.assert_close(losses, theirs["losses"], rtol=1e-3, atol=1e-4)
        for name, parameter in sae.named_parameters():
            torch.testing.assert_close(
                parameter.detach(), theirs[name], rtol=1e-3, atol=1e-4, msg=name
            )
