"""A Hugging Face causal language model with named sites."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch
from interp_engine import capture
from interp_engine.model import EagerModel
from jinja2 import TemplateError

from interpretops.artifacts import ModelRef
from interpretops.errors import InterpretOpsError
from interpretops.models.batch import Batch, PaddingSide
from interpretops.models.forward import Forward
from interpretops.models.generation import Step, decode
from interpretops.models.hooks import SiteHooks, site
from interpretops.models.sampling import GREEDY, Sampling
from interpretops.models.sources import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from interp_engine import Address

    from interpretops.models.prefix import Prefix
    from interpretops.models.reading import ReadPrompts

_DERIVED_SITES = frozenset({"attn_probs", "attn_scores", "value"})
"""Sites that no single module holds; interp-engine rebuilds them after the forward."""


class _Enough(Exception):
    """Every site asked for has been read; the rest of the forward is not needed."""


class HookedModel:
    """An unmodified Hugging Face causal language model whose activations can be read and written.

    With no hooks attached, logits are bit-identical to the bare model's.

    Args:
        model_name: Hub id, local folder, `.gguf` file, or `builtin:smollm2-135m-instruct`.
        dtype: `auto` (bfloat16 where it is faster, else float32), `float32`, `bfloat16`
            or `float16`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        cache_dir: Folder for converted weights and for artifacts.
        attn_implementation: The fastest that the architecture supports by default; `eager` where
            attention patterns are to be read.

    Raises:
        InterpretOpsError: When the model cannot be loaded.
    """

    def __init__(
        self,
        model_name: str,
        dtype: str = "auto",
        device: str = "auto",
        cache_dir: str | Path = "./.io_cache",
        attn_implementation: str | None = None,
    ) -> None:
        loaded = load(
            model_name,
            dtype=dtype,
            device=device,
            cache_dir=Path(cache_dir),
            attn_implementation=attn_implementation,
        )
        self._bind(loaded.model, loaded.tokenizer, model_name, Path(cache_dir))

    @classmethod
    def from_hf(cls, model: Any, tokenizer: Any, *, name: str = "in-memory") -> HookedModel:
        """Wrap a model that is already loaded."""
        hooked = cls.__new__(cls)
        hooked._bind(model.eval(), tokenizer, name, Path("./.io_cache"))
        return hooked

    def _bind(self, model: Any, tokenizer: Any, name: str, cache_dir: Path) -> None:
        self.name = name
        self.cache_dir = cache_dir
        self.hf = model
        self.tokenizer = tokenizer
        self._engine = EagerModel(name, hf_model=model, tokenizer=tokenizer)
        self.arch = self._engine.arch
        self.config = model.config
        self.running: Forward | None = None

    # --- what the model is ----------------------------------------------------------------------

    @property
    def n_layers(self) -> int:
        """Decoder layers."""
        return int(self.arch.n_layers)

    @property
    def n_heads(self) -> int:
        """Query heads per layer."""
        return int(self.arch.n_heads)

    @property
    def n_kv_heads(self) -> int:
        """Key-value heads per layer (fewer than `n_heads` where heads are grouped)."""
        return int(self.arch.n_kv_heads)

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return int(self.arch.head_dim)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.arch.d_model)

    @property
    def vocab_size(self) -> int:
        """Rows of the unembedding."""
        return int(self.arch.vocab_size)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return torch.device(self.hf.device)

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' type."""
        dtype: torch.dtype = next(iter(self.hf.parameters())).dtype
        return dtype

    @property
    def max_positions(self) -> int:
        """The longest sequence the model was built for, in tokens."""
        return int(getattr(self.config.get_text_config(), "max_position_embeddings", 2**31))

    @cached_property
    def pad_id(self) -> int:
        """The token that fills padding; never attended to."""
        for candidate in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if candidate is not None:
                return int(candidate)
        return 0

    @cached_property
    def end_ids(self) -> torch.Tensor:
        """Tokens that end an answer, as the generation settings and the tokenizer say."""
        configured = getattr(self.hf.generation_config, "eos_token_id", None)
        ids = configured if isinstance(configured, list) else [configured]
        ids = [*ids, self.tokenizer.eos_token_id]
        known = sorted({int(i) for i in ids if i is not None})
        return torch.tensor(known, dtype=torch.int64, device=self.device)

    @cached_property
    def ref(self) -> ModelRef:
        """Name, architecture, dtype and fingerprint, as manifests record them."""
        digest = hashlib.sha256()
        config = self.config.to_dict()
        for volatile in ("_name_or_path", "transformers_version", "torch_dtype", "dtype"):
            config.pop(volatile, None)
        digest.update(json.dumps(config, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.hf.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return ModelRef(
            name=self.name,
            architecture=str(self.arch.architecture),
            dtype=str(self.dtype).removeprefix("torch."),
            fingerprint=digest.hexdigest(),
        )

    # --- text to tokens -------------------------------------------------------------------------

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer carries a chat template."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    def chat_text(self, prompt: str, *, system: str | None = None) -> str:
        """The prompt as the model expects a user's turn, up to where its answer begins.

        Without a chat template the system text (if any) and the prompt are joined as plain text.
        """
        if not self.has_chat_template:
            return prompt if system is None else f"{system}\n\n{prompt}"
        turns = [{"role": "system", "content": system}] if system is not None else []
        turns.append({"role": "user", "content": prompt})
        text: str = self.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        return text

    def token_ids(self, text: str, *, chat: bool = True, system: str | None = None) -> list[int]:
        """Token ids of one prompt, chat template applied where there is one."""
        if chat and self.has_chat_template:
            templated = self.chat_text(text, system=system)
            return list(self.tokenizer(templated, add_special_tokens=False)["input_ids"])
        plain = self.chat_text(text, system=system) if system is not None else text
        return list(self.tokenizer(plain)["input_ids"])

    def conversation_ids(self, turns: Sequence[tuple[str, str]]) -> list[int]:
        """Token ids of a conversation, up to where the model's answer begins.

        Without a chat template the turns are joined as plain text.

        Args:
            turns: Role (`system`, `user` or `assistant`) and content of each turn.

        Raises:
            InterpretOpsError: When the model's chat template refuses the conversation.
        """
        if not self.has_chat_template:
            return list(self.tokenizer("\n\n".join(content for _, content in turns))["input_ids"])
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            raise InterpretOpsError(
                f"the chat template of {self.name} refuses this conversation ({error})",
                fix="begin with the user, let user and assistant take turns, and leave out roles that "
                "the model does not know",
            ) from error
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode(
        self,
        prompts: Sequence[str],
        *,
        chat: bool = True,
        system: str | None = None,
        padding_side: PaddingSide = "left",
        continuations: Sequence[str] | None = None,
    ) -> Batch:
        """Tokenise and pad prompts.

        Args:
            prompts: User turns (or plain text where `chat` is false).
            chat: Whether to apply the chat template, if the model has one.
            system: A system turn to put before each prompt.
            padding_side: Where to pad.
            continuations: The beginning of an answer for each prompt. It is tokenised by itself,
                so a prompt has the same tokens whatever follows it.

        Raises:
            InterpretOpsError: When a prompt is empty or longer than the model's context.
        """
        rows = [self.token_ids(prompt, chat=chat, system=system) for prompt in prompts]
        lengths = [len(row) for row in rows]
        if continuations is not None:
            rows = [
                [*row, *self.tokenizer(text, add_special_tokens=False)["input_ids"]]
                for row, text in zip(rows, continuations, strict=True)
            ]
        longest = max(range(len(rows)), key=lambda i: len(rows[i]), default=0)
        if rows and len(rows[longest]) > self.max_positions:
            raise InterpretOpsError(
                f"prompt {longest + 1} has {len(rows[longest])} tokens but the model's context "
                f"holds {self.max_positions}",
                fix="shorten it",
            )
        return Batch.from_ids(
            rows,
            pad_id=self.pad_id,
            padding_side=padding_side,
            prompt_lengths=lengths,
            device=self.device,
        )

    def text(self, tokens: Sequence[int] | torch.Tensor) -> str:
        """Text of token ids, special tokens left out."""
        decoded: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return decoded

    # --- forwards -------------------------------------------------------------------------------

    def hooks(self) -> SiteHooks:
        """An empty set of reads and writes, to be filled and used in a `with` block."""
        return SiteHooks(self._engine)

    def forward(
        self,
        input_ids: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor,
        cache: Any = None,
        logits_to_keep: int = 0,
        running: Forward | None = None,
    ) -> torch.Tensor:
        """One forward of the module; hooks that are in force act on it.

        Args:
            input_ids: `[batch, seq]`.
            attention_mask: `[batch, past + seq]`, or None where nothing is padded.
            position_ids: `[batch, seq]`.
            cache: A Hugging Face cache to read and extend.
            logits_to_keep: Compute logits for this many last positions only (0: all).
            running: What the positions of this input are, for hooks that ask.

        Returns:
            Logits, `[batch, kept, vocab]`.
        """
        # Positions by index make a compact tensor. A slice of a batch is strided, and multiplying a
        # strided bfloat16 tensor copies the unembedding once per row.
        length = input_ids.shape[1]
        kept = torch.arange(max(0, length - logits_to_keep), length, device=input_ids.device)
        with self._in_force(running):
            output = self.hf(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=kept if logits_to_keep else 0,
            )
        logits: torch.Tensor = output.logits
        return logits

    def logits(self, batch: Batch, *, last_only: bool = False, start: int = 0) -> torch.Tensor:
        """Logits of a batch, `[batch, seq, vocab]`, or `[batch, vocab]` at each row's last token.

        Gradients flow unless the caller disables them.

        Args:
            batch: The texts.
            last_only: Whether those at each row's last token are all that is wanted.
            start: The first position whose logits are wanted: `[batch, seq - start, vocab]`. The
                unembedding of a large vocabulary costs as much as many layers.
        """
        mask = batch.attention_mask if batch.padded else None
        keep = batch.input_ids.shape[1] - start if start else 0
        if last_only and batch.padding_side == "left":
            keep = 1
        logits = self.forward(
            batch.input_ids,
            attention_mask=mask,
            position_ids=batch.position_ids,
            logits_to_keep=keep,
            running=Forward.over(batch),
        )
        if not last_only:
            return logits
        return logits[:, -1] if keep else batch.at(logits, batch.last)

    def capture(
        self,
        batch: Batch,
        sites: Sequence[str | Address],
        *,
        grad: bool = False,
        after: Prefix | None = None,
    ) -> dict[Address, torch.Tensor]:
        """Activations at `sites`, `[batch, seq, width]` each; the forward stops after the last one.

        Values at padding positions are meaningless.

        Args:
            batch: The prompts.
            sites: Where to read.
            grad: Whether to keep the graph for backpropagation.
            after: Tokens that come before every row of the batch and need not be run again. The batch
                must be padded on the right: padding in between would widen attention's windows.

        Raises:
            InterpretOpsError: When this model lacks one of the sites.
        """
        wanted = [site(where) for where in sites]
        mask = batch.attention_mask if batch.padded else None
        positions, cache = batch.position_ids, None
        if after is not None:
            assert batch.padding_side == "right" or not batch.padded
            seen = torch.ones(len(batch), after.length, dtype=torch.int64, device=self.device)
            mask = torch.cat([seen, batch.attention_mask], dim=1)
            positions, cache = positions + after.length, after.cache(len(batch))
        if any(address.name in _DERIVED_SITES for address in wanted):
            return self._capture_derived(batch, wanted)
        found: dict[Address, torch.Tensor] = {}

        with self.hooks() as hooks:
            for address in dict.fromkeys(wanted):

                def keep(value: torch.Tensor, address: Address = address) -> None:
                    found[address] = value
                    if len(found) == len(wanted):
                        raise _Enough

                hooks.read(address, keep)
            wanted = list(dict.fromkeys(wanted))
            with (
                torch.set_grad_enabled(grad),
                self._in_force(Forward.over(batch)),
                suppress(_Enough),
            ):
                self.hf(
                    input_ids=batch.input_ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=cache is not None,
                    logits_to_keep=1,
                )
        return {address: found[address] for address in wanted}

    def _capture_derived(self, batch: Batch, wanted: list[Address]) -> dict[Address, torch.Tensor]:
        try:
            cache = capture(
                self._engine, batch.input_ids, wanted, attention_mask=batch.attention_mask
            )
        except (ValueError, RuntimeError, AttributeError) as error:
            raise InterpretOpsError(
                f"{', '.join(map(str, wanted))} cannot be read here ({error})",
                fix="load the model with attn_implementation='eager'",
            ) from error
        return {address: cache[address] for address in wanted}

    @contextmanager
    def _in_force(self, running: Forward | None) -> Iterator[None]:
        before, self.running = self.running, running
        try:
            yield
        finally:
            self.running = before

    # --- weights that analyses need -------------------------------------------------------------

    def head_weights(self, layer: int) -> torch.Tensor:
        """The output projection split by head, `[n_heads, head_dim, d_model]`.

        `z` (per head) times this sums over heads to `attn_out` less the projection's bias.
        """
        projection = self.arch.attn_out_proj(layer)
        weight = projection.weight
        # nn.Linear keeps [out, in]; GPT-2's Conv1D keeps [in, out].
        by_input = weight.t() if hasattr(projection, "in_features") else weight
        head_dim = int(self.arch.value_head_dim_for_layer(layer))
        split: torch.Tensor = by_input.reshape(-1, head_dim, by_input.shape[-1])
        return split

    def module_paths(self, layer: int) -> dict[str, str]:
        """Dotted paths of the linear projections of a layer, and whether they are `attn` or `mlp`."""
        owners = {id(self.arch.attn_module(layer)): "attn", id(self.arch.mlp_module(layer)): "mlp"}
        paths: dict[str, str] = {}
        for name, module in self.hf.named_modules():
            if id(module) in owners:
                for inner, child in module.named_modules():
                    if getattr(child, "weight", None) is not None and child.weight.ndim == 2:
                        paths[f"{name}.{inner}"] = owners[id(module)]
        return paths

    def unembed(self, residual: torch.Tensor) -> torch.Tensor:
        """Logits of a final residual stream: final norm, unembedding, scaling and soft cap.

        Args:
            residual: `[..., d_model]`, as at `resid_post` of the last layer.
        """
        logits = self.arch.lm_head(self.arch.final_norm(residual))
        quirks = self.arch.quirks
        if quirks.logit_multiplier is not None:
            logits = logits * quirks.logit_multiplier
        cap = quirks.final_logit_softcapping
        scaled: torch.Tensor = logits if cap is None else cap * torch.tanh(logits / cap)
        return scaled

    # --- generation -----------------------------------------------------------------------------

    def stream(
        self,
        prompts: Batch | ReadPrompts,
        max_new_tokens: int = 64,
        sampling: Sampling = GREEDY,
    ) -> Iterator[Step]:
        """Decode step by step; see `interpretops.models.generation.decode`."""
        return decode(self, prompts, max_new_tokens, sampling)

    @overload
    def generate(
        self,
        prompt: str,
        max_new_tokens: int = ...,
        *,
        sampling: Sampling = ...,
        chat: bool = ...,
        system: str | None = ...,
    ) -> str: ...
    @overload
    def generate(
        self,
        prompt: list[str],
        max_new_tokens: int = ...,
        *,
        sampling: Sampling = ...,
        chat: bool = ...,
        system: str | None = ...,
    ) -> list[str]: ...
    def generate(
        self,
        prompt: str | list[str],
        max_new_tokens: int = 64,
        *,
        sampling: Sampling = GREEDY,
        chat: bool = True,
        system: str | None = None,
    ) -> str | list[str]:
        """Answer one prompt, or several as one batch.

        Args:
            prompt: A user turn, or several.
            max_new_tokens: The limit per answer.
            sampling: How tokens are chosen; greedy by default.
            chat: Whether to apply the chat template.
            system: A system turn.

        Returns:
            The answer's text, or a list of them in the order of the prompts.
        """
        prompts = [prompt] if isinstance(prompt, str) else prompt
        batch = self.encode(prompts, chat=chat, system=system)
        answers = self.collect(self.stream(batch, max_new_tokens, sampling), len(batch))
        texts = [self.text(answer) for answer in answers]
        return texts[0] if isinstance(prompt, str) else texts

    def collect(self, steps: Iterator[Step], rows: int) -> list[list[int]]:
        """Token ids of each row from a stream of steps, end tokens left out."""
        answers: list[list[int]] = [[] for _ in range(rows)]
        ends = set(self.end_ids.tolist())
        for step in steps:
            for row, (token, active) in enumerate(
                zip(step.tokens.tolist(), step.active.tolist(), strict=True)
            ):
                if active and token not in ends:
                    answers[row].append(token)
        return answers
