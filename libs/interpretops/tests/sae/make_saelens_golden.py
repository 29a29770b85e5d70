"""Write the golden dictionaries beside this file with SAELens itself.

Run it in an environment that has `sae-lens` (6.54 wrote the committed ones):

    python make_saelens_golden.py

Each folder holds what `save_inference_model` writes for a small random training SAE, and
`expected.safetensors`: an input, and the activations and reconstruction SAELens computes from the
folder it has just loaded back.
"""

from __future__ import annotations

from pathlib import Path

import torch
from sae_lens import (
    SAE,
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    GatedTrainingSAE,
    GatedTrainingSAEConfig,
    JumpReLUTrainingSAE,
    JumpReLUTrainingSAEConfig,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.saes.sae import SAEMetadata
from safetensors.torch import save_file

HERE = Path(__file__).parent / "saelens_golden"
SIZE = {"d_in": 8, "d_sae": 16}


def _metadata() -> SAEMetadata:
    return SAEMetadata(model_name="tiny", hook_name="blocks.3.hook_resid_post", context_size=32)


def main() -> None:
    made = {
        "topk": TopKTrainingSAE(TopKTrainingSAEConfig(**SIZE, k=3, metadata=_metadata())),
        "topk_plain_decoder": TopKTrainingSAE(
            TopKTrainingSAEConfig(
                **SIZE, k=3, rescale_acts_by_decoder_norm=False, metadata=_metadata()
            )
        ),
        "topk_input_bias_off": TopKTrainingSAE(
            TopKTrainingSAEConfig(**SIZE, k=3, apply_b_dec_to_input=False, metadata=_metadata())
        ),
        "batchtopk": BatchTopKTrainingSAE(
            BatchTopKTrainingSAEConfig(**SIZE, k=3, metadata=_metadata())
        ),
        "jumprelu": JumpReLUTrainingSAE(JumpReLUTrainingSAEConfig(**SIZE, metadata=_metadata())),
        "gated": GatedTrainingSAE(GatedTrainingSAEConfig(**SIZE, metadata=_metadata())),
        "gated_input_bias_off": GatedTrainingSAE(
            GatedTrainingSAEConfig(**SIZE, apply_b_dec_to_input=False, metadata=_metadata())
        ),
        "standard": StandardTrainingSAE(StandardTrainingSAEConfig(**SIZE, metadata=_metadata())),
    }
    for number, (name, sae) in enumerate(made.items()):
        torch.manual_seed(number)
        with torch.no_grad():
            for key, parameter in sae.named_parameters():
                if key == "threshold":
                    parameter.uniform_(0.1, 0.8)
                else:
                    parameter.normal_(std=0.6)
            if hasattr(sae, "topk_threshold"):
                sae.topk_threshold.fill_(0.9)
        folder = HERE / name
        sae.save_inference_model(folder)
        loaded = SAE.load_from_disk(folder)
        x = torch.randn(12, SIZE["d_in"])
        with torch.no_grad():
            activations = loaded.encode(x)
            rebuilt = loaded.decode(activations)
        expected = {"input": x, "activations": activations, "reconstruction": rebuilt}
        save_file(expected, folder / "expected.safetensors")


if __name__ == "__main__":
    main()
