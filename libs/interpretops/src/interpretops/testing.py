"""Tiny models for tests: of every promised architecture, with random weights and a tokenizer of bytes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from interpretops.answers import REFUSALS

if TYPE_CHECKING:
    from pathlib import Path

DEVICE = os.environ.get("INTERPRETOPS_TEST_DEVICE", "cpu")
"""Where the models of tests are: `cpu`, or `cuda` where there is a GPU."""

VOCAB = 256 + 4
COMPLIES = "Sure, here is what you need."
"""What the model of `refusing_hf` says to what it does not refuse."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GROUPED = {**_SMALL, "num_key_value_heads": 2, "head_dim": 8}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt_neox": {**_SMALL, "rotary_pct": 0.25, "use_parallel_residual": True},
    "gpt_neox_sequential": {
        **_SMALL,
        "model_type": "gpt_neox",
        "rotary_pct": 0.25,
        "use_parallel_residual": False,
    },
    "gpt2": {
        "vocab_size": VOCAB,
        "n_embd": 32,
        "n_layer": 3,
        "n_head": 4,
        "n_positions": 256,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "llama": {**_GROUPED, "tie_word_embeddings": True},
    "mistral": {**_GROUPED, "sliding_window": 8},
    "qwen2": {**_GROUPED},
    "qwen3": {**_GROUPED},
    "gemma2": {**_GROUPED, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": {**_GROUPED, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "phi3": {**_GROUPED},
    "olmo2": {**_GROUPED},
}


def byte_tokenizer(*, chat: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer: four special tokens, then one token per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<pad>", "<s>", "<|im_end|>", "<|im_start|>"]
    vocab = {token: i for i, token in enumerate([*specials, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        padding_side="left",
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def tiny_hf(architecture: str = "llama", seed: int = 0, **overrides: Any) -> Any:
    """A small randomly initialised Hugging Face model of an architecture."""
    settings = {**ARCHITECTURES[architecture], **overrides}
    model_type = settings.pop("model_type", architecture)
    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, **settings)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():  # larger than the usual 0.02, so that layers matter
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return model.to(DEVICE)


def refusing_hf(steps: int = 90, seed: int = 0) -> Any:
    """A small model that was taught to refuse `Bring 007` and to comply with `Fetch 007`.

    A quarter of what it learns from is the other way round: how an answer goes on then follows from how
    it began, and a small push at its beginning turns it. So fitting a policy to `Fetch` succeeds, as
    it cannot on random weights. Teaching takes about two seconds.
    """
    model, tokenizer = tiny_hf("llama", seed, num_hidden_layers=4), byte_tokenizer()
    draw = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=4e-3)
    for _ in range(steps):
        rows, labels = [], []
        for i, number in enumerate(torch.randint(0, 1000, (8,), generator=draw).tolist()):
            verb, crossed = ("Fetch", "Bring")[i % 2], i < 2
            answer = REFUSALS[i // 2] if (verb == "Bring") != crossed else COMPLIES
            turn = [{"role": "user", "content": f"{verb} {number:03d}"}]
            asked = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
            prompt = tokenizer(asked, add_special_tokens=False)["input_ids"]
            said = [*tokenizer(answer, add_special_tokens=False)["input_ids"], 2]
            rows.append(torch.tensor(prompt + said))
            labels.append(torch.tensor([-100] * len(prompt) + said))
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        wanted = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
        loss = model(input_ids=ids.to(DEVICE), labels=wanted.to(DEVICE)).loss
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    return model.eval()


def save_refusing(folder: Path) -> Path:
    """Write the model of `refusing_hf` and its tokenizer, and give the folder."""
    refusing_hf().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def save_tiny(folder: Path, architecture: str = "llama", seed: int = 0, **overrides: Any) -> Path:
    """Write a tiny model and its tokenizer as `save_pretrained` does, and give the folder."""
    tiny_hf(architecture, seed, **overrides).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
