"""Text as token sequences of bounded length: what activations are computed from."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from interpretops.models import HookedModel
    from interpretops.prompts import PromptSet
    from interpretops.tracing import Trace

    Scrub = Callable[[str], tuple[str, Mapping[str, int]]]


@dataclass(frozen=True)
class TokenStream:
    """Token sequences in the order they were read.

    Attributes:
        tokens: `[n]` int32, all sequences end to end.
        starts: `[sequences + 1]` int64, where each begins, and the end of the last.
        source: Where the text came from, for the record.
        redactions: Pieces of personal information scrubbed before tokenising, by kind.
    """

    tokens: Tensor
    starts: Tensor
    source: str
    redactions: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]], *, source: str) -> TokenStream:
        """A stream of given token ids.

        Raises:
            InterpretOpsError: When there is not one token.
        """
        kept = [row for row in rows if len(row)]
        if not kept:
            raise InterpretOpsError(
                f"{source} holds no text", fix="give prompts or files with some text in them"
            )
        lengths = torch.tensor([0, *(len(row) for row in kept)])
        flat = torch.cat([torch.tensor(row, dtype=torch.int32) for row in kept])
        return cls(flat, lengths.cumsum(0), source)

    @classmethod
    def from_prompts(
        cls,
        model: HookedModel,
        prompts: PromptSet,
        *,
        context_length: int,
        answers: Sequence[str] | None = None,
    ) -> TokenStream:
        """One sequence per prompt, chat template applied, cut to `context_length` tokens.

        Args:
            model: Whose tokenizer to use.
            prompts: The prompts.
            context_length: Longest sequence, in tokens.
            answers: What the model answered to each prompt; follows it in its sequence.
        """
        texts = [prompt.text for prompt in prompts]
        rows = [model.token_ids(text) for text in texts]
        if answers is not None:
            rows = [
                [*row, *model.tokenizer(answer, add_special_tokens=False)["input_ids"]]
                for row, answer in zip(rows, answers, strict=True)
            ]
        stream = cls.of((row[:context_length] for row in rows), source=prompts.source)
        return replace(stream, redactions=dict(prompts.redactions))

    @classmethod
    def from_trace(cls, trace: Trace) -> TokenStream:
        """The token sequences of a trace, one per prompt."""
        rows = (trace.tokens(prompt).tolist() for prompt in range(len(trace.prompts)))
        stream = cls.of(rows, source=f"trace {trace.id}")
        return replace(stream, redactions=dict(trace.manifest.redactions))

    @classmethod
    def from_texts(
        cls,
        model: HookedModel,
        texts: Iterable[str],
        *,
        context_length: int,
        source: str,
        scrub: Scrub | None = None,
    ) -> TokenStream:
        """Documents packed end to end, with the end-of-text token between, in equal windows.

        Args:
            model: Whose tokenizer to use.
            texts: Documents.
            context_length: Tokens per window; the remainder at the end is one shorter window.
            source: Where they came from.
            scrub: Removes personal information from a document and counts what it removed.
        """
        counts: Counter[str] = Counter()
        flat: list[int] = []
        separator = model.tokenizer.eos_token_id
        for text in texts:
            if scrub is not None:
                text, found = scrub(text)
                counts.update(found)
            flat.extend(model.tokenizer(text, add_special_tokens=False)["input_ids"])
            if separator is not None:
                flat.append(int(separator))
        windows = (flat[i : i + context_length] for i in range(0, len(flat), context_length))
        return replace(cls.of(windows, source=source), redactions=dict(sorted(counts.items())))

    @classmethod
    def from_files(
        cls,
        model: HookedModel,
        paths: Sequence[str | Path],
        *,
        context_length: int,
        scrub: Scrub | None = None,
    ) -> TokenStream:
        """Plain text files, one document each, packed.

        Raises:
            InterpretOpsError: When a file is missing or is not UTF-8 text.
        """
        texts = []
        for path in map(Path, paths):
            try:
                texts.append(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError) as error:
                raise InterpretOpsError(
                    f"{path} cannot be read as text ({error})",
                    fix="give the path of a UTF-8 text file",
                ) from error
        source = ", ".join(Path(path).name for path in paths)
        return cls.from_texts(
            model, texts, context_length=context_length, source=source, scrub=scrub
        )

    def __len__(self) -> int:
        return int(self.starts.shape[0]) - 1

    @property
    def lengths(self) -> Tensor:
        """`[sequences]` tokens in each."""
        return self.starts.diff()

    def row(self, index: int) -> list[int]:
        """Token ids of one sequence."""
        row: list[int] = self.tokens[self.starts[index] : self.starts[index + 1]].tolist()
        return row

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the tokens and of where sequences begin."""
        digest = hashlib.sha256(self.tokens.numpy().tobytes())
        digest.update(self.starts.numpy().tobytes())
        return digest.hexdigest()

    def select(self, indices: Tensor) -> TokenStream:
        """Some of the sequences, in the order of `indices`."""
        rows = [self.row(int(i)) for i in indices]
        return replace(TokenStream.of(rows, source=self.source), redactions=self.redactions)

    def split(self, heldout: float, seed: int) -> tuple[Tensor, Tensor]:
        """Indices of sequences to train on and of sequences kept back, each ascending.

        Args:
            heldout: Share of the sequences to keep back, at least one.
            seed: Decides which.

        Raises:
            InterpretOpsError: When there are fewer than two sequences.
        """
        if len(self) < 2:
            raise InterpretOpsError(
                f"{self.source} is a single sequence, so none can be held out for evaluation",
                fix="give more text or a smaller context_length",
            )
        kept_back = min(len(self) - 1, max(1, round(heldout * len(self))))
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return order[kept_back:].sort().values, order[:kept_back].sort().values
