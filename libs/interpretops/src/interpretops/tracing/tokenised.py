"""Prompts as token ids, with the place of the user's own text inside the chat template."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from interpretops.artifacts.manifest import canonical_json
from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from interpretops.models import HookedModel
    from interpretops.prompts import PromptSet
    from interpretops.tracing.spec import TraceSpec


@dataclass(frozen=True)
class Tokenised:
    """Token ids of every prompt, kept flat: four bytes a token.

    Attributes:
        ids: `[tokens]` int32, prompt after prompt.
        start: `[prompts + 1]` int64, where each prompt's tokens begin in `ids`.
        text_start: `[prompts]` int32, the prompt's first token that holds the user's own text.
        text_end: `[prompts]` int32, one past the last such token.
        truncated: How many prompts were cut.
    """

    ids: NDArray[np.int32]
    start: NDArray[np.int64]
    text_start: NDArray[np.int32]
    text_end: NDArray[np.int32]
    truncated: int

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each prompt, `[prompts]`."""
        return np.diff(self.start)

    def row(self, prompt: int) -> list[int]:
        """Token ids of one prompt."""
        found: list[int] = self.ids[self.start[prompt] : self.start[prompt + 1]].tolist()
        return found

    @property
    def sha256(self) -> str:
        """The SHA-256 of all ids and boundaries: tokenizer, template and truncation in one hash."""
        digest = hashlib.sha256()
        for part in (self.ids, self.start, self.text_start, self.text_end):
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()


def tokenise(model: HookedModel, prompts: PromptSet, spec: TraceSpec) -> Tokenised:
    """Token ids as `HookedModel.token_ids` gives them, cut or refused where they are too long.

    Raises:
        InterpretOpsError: When a prompt does not fit, names which.
    """
    limit = min(spec.max_tokens or model.max_positions, model.max_positions)
    rows: list[NDArray[np.int32]] = []
    spans: list[tuple[int, int]] = []
    truncated = 0
    for prompt in prompts:
        ids, span = _with_text_span(model, prompt.text, spec)
        if not ids:
            raise InterpretOpsError(
                f"prompt {prompt.id!r} holds no tokens", fix="remove it or put text into it"
            )
        excess = len(ids) - limit
        if excess > 0:
            if not spec.truncate:
                raise InterpretOpsError(
                    f"prompt {prompt.id!r} has {len(ids)} tokens but {limit} is the limit",
                    fix="shorten it, or set truncate to true to cut it at its end",
                )
            start, end = span
            if end - start <= excess:
                raise InterpretOpsError(
                    f"prompt {prompt.id!r} would lose all its text at a limit of {limit} tokens",
                    fix="raise max_tokens, or shorten the system text",
                )
            ids, span = ids[: end - excess] + ids[end:], (start, end - excess)
            truncated += 1
        if spec.positions == "prompt" and span[0] == span[1]:
            raise InterpretOpsError(
                f"the text of prompt {prompt.id!r} is not found in the chat template's output",
                fix="set positions to all or last",
            )
        rows.append(np.asarray(ids, dtype=np.int32))
        spans.append(span)
    starts = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=starts[1:])
    text = np.asarray(spans, dtype=np.int32).reshape(-1, 2)
    return Tokenised(np.concatenate(rows), starts, text[:, 0], text[:, 1], truncated)


def template_hash(model: HookedModel, spec: TraceSpec) -> str | None:
    """The SHA-256 of the chat template that is applied; None when none is."""
    if not (spec.chat and model.has_chat_template):
        return None
    return hashlib.sha256(canonical_json(model.tokenizer.chat_template)).hexdigest()


def _with_text_span(
    model: HookedModel, text: str, spec: TraceSpec
) -> tuple[list[int], tuple[int, int]]:
    """Token ids, and which of them hold the user's own text."""
    ids = model.token_ids(text, chat=spec.chat, system=spec.system)
    templated = spec.chat and model.has_chat_template
    plain = templated or spec.system is not None
    whole = model.chat_text(text, system=spec.system) if plain else text
    # templates put the user's turn last, and some trim it
    begin = whole.rfind(text.strip())
    if begin < 0 or not model.tokenizer.is_fast:
        return ids, (0, 0)
    encoding = model.tokenizer(whole, add_special_tokens=not templated, return_offsets_mapping=True)
    offsets: Sequence[tuple[int, int]] = encoding["offset_mapping"]
    end = begin + len(text.strip())
    inside = [i for i, (left, right) in enumerate(offsets) if right > begin and left < end]
    return ids, (inside[0], inside[-1] + 1) if inside else (0, 0)
