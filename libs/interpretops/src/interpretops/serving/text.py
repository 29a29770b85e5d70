"""Tokens become text as they come: whole characters, and never a part of a stop text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenizers.decoders import DecodeStream
from transformers.convert_slow_tokenizer import bytes_to_unicode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.models import HookedModel

_BYTES = {character: byte for byte, character in bytes_to_unicode().items()}


class Vocabulary:
    """Text and bytes of single tokens, each looked up once.

    Args:
        model: Its tokenizer is asked.
    """

    def __init__(self, model: HookedModel) -> None:
        self.model = model
        self._tokenizer = model.tokenizer
        self._known: dict[int, tuple[str, bytes]] = {}
        decoder = str(getattr(getattr(self._tokenizer, "backend_tokenizer", None), "decoder", ""))
        self._byte_level = "ByteLevel" in decoder

    def __getitem__(self, token: int) -> tuple[str, bytes]:
        """A token's text alone (bytes that are not whole characters become U+FFFD), and its bytes."""
        if token not in self._known:
            utf8 = self._utf8(token)
            self._known[token] = (utf8.decode("utf-8", errors="replace"), utf8)
        return self._known[token]

    def _utf8(self, token: int) -> bytes:
        piece = self._tokenizer.convert_ids_to_tokens(token)
        if piece is None or token in self._tokenizer.all_special_ids:
            return (piece or "").encode()
        if self._byte_level:
            # An added token is kept as it is written, which the byte alphabet may not hold.
            held = [_BYTES.get(character) for character in piece]
            known = [byte for byte in held if byte is not None]
            return bytes(known) if len(known) == len(held) else str(piece).encode()
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        return str(piece).replace("▁", " ").encode()

    def decoder(self) -> DecodeStream:
        """What turns the tokens of one answer into text as they come."""
        return DecodeStream(skip_special_tokens=True)

    def step(self, decoder: DecodeStream, token: int) -> str:
        """Characters that a token completes."""
        piece: str | None = decoder.step(self._tokenizer.backend_tokenizer, token)
        return piece or ""


@dataclass(frozen=True)
class Piece:
    """A piece of text that may be shown, and the tokens that end in it."""

    text: str
    tokens: tuple[Any, ...]


class TextStream:
    """The text of one answer as its tokens come.

    The pieces put together are `HookedModel.text` of the tokens, up to the first stop text.

    Args:
        vocabulary: Of the model that answers.
        stop: The answer ends before the first of these.
    """

    def __init__(self, vocabulary: Vocabulary, stop: Sequence[str] = ()) -> None:
        self._vocabulary = vocabulary
        self._decoder = vocabulary.decoder()
        self._stop = tuple(stop)
        self._ids: list[int] = []
        self._text = ""
        self._shown = 0
        self._held: list[tuple[int, int, Any]] = []  # where each begins and ends
        self.stopped: str | None = None
        """The stop text that came, if one did."""

    def push(self, token: int, info: Any) -> Piece:
        """Add a token; what may be shown now, which may be nothing.

        Args:
            token: Its id.
            info: What stands for it in `Piece.tokens`.
        """
        self._ids.append(token)
        before = len(self._text)
        self._text += self._vocabulary.step(self._decoder, token)
        self._held.append((before, len(self._text), info))
        found = [
            (at, text)
            for text in self._stop
            if (at := self._text.find(text, max(0, before - len(text) + 1))) >= 0
        ]
        if found:
            at, self.stopped = min(found)
            self._text = self._text[:at]
            # A token that begins behind the cut belongs to the stop text.
            self._held = [held for held in self._held if held[0] < at]
            return self._show(at, everything=True)
        return self._show(len(self._text) - self._pending())

    def finish(self) -> Piece:
        """The rest, when no more tokens come: half a character is shown as U+FFFD."""
        if self.stopped is None:
            whole = self._vocabulary.model.text(self._ids)
            if whole.startswith(self._text):
                self._text = whole
        return self._show(len(self._text), everything=True)

    def _pending(self) -> int:
        """How many of the last characters may be the beginning of a stop text."""
        longest = 0
        for text in self._stop:
            for size in range(min(len(text) - 1, len(self._text)), longest, -1):
                if self._text.endswith(text[:size]):
                    longest = size
                    break
        return longest

    def _show(self, until: int, *, everything: bool = False) -> Piece:
        if until <= self._shown and not everything:
            return Piece("", ())
        text, self._shown = self._text[self._shown : until], max(self._shown, until)
        count = sum(1 for _, end, _ in self._held if everything or end <= until)
        shown, self._held = self._held[:count], self._held[count:]
        return Piece(text, tuple(info for *_, info in shown))
