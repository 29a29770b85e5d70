"""Streaming activations to disk."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open

from interpretops.artifacts import ArtifactKind
from interpretops.errors import InterpretOpsError
from interpretops.models import Address, Batch, Beginning, run_batched, site
from interpretops.progress import SILENT
from interpretops.tracing.plan import make_plan
from interpretops.tracing.reader import INDEX, PROMPTS, TOKENS, Shard, Trace, TraceIndex
from interpretops.tracing.spec import TraceSpec
from interpretops.tracing.tokenised import template_hash, tokenise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from interpretops.artifacts import ArtifactStore, Draft
    from interpretops.models import HookedModel
    from interpretops.progress import Monitor
    from interpretops.prompts import PromptSet
    from interpretops.tracing.plan import Plan, PlannedBatch, PlannedShard
    from interpretops.tracing.tokenised import Tokenised

_STAGE = "tracing"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TraceWork(BaseModel):
    """Everything besides the model that determines a trace; the manifest records it.

    Attributes:
        trace: What was asked for.
        prompts_sha256: Of the prompts, after redaction.
        tokens_sha256: Of their token ids, and so of tokenizer and chat template.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trace: TraceSpec
    prompts_sha256: str
    tokens_sha256: str


def trace(
    model: HookedModel,
    prompts: PromptSet,
    spec: TraceSpec,
    *,
    store: ArtifactStore,
    monitor: Monitor = SILENT,
) -> Trace:
    """Run the prompts through the model and keep the activations at the chosen sites.

    Shards are written one by one, each whole or not at all. An interrupted run (even by `kill -9`)
    is taken up by the same call after its last shard, and ends with the same bytes. When memory
    runs out the batch is halved at its planned padding; on most kernels that too leaves every bit
    as it was, but float arithmetic does not promise it.

    Args:
        model: The model.
        prompts: The prompts; nothing of them is written that is not in the set, so redact first.
        spec: What to keep.
        store: Where to keep it.
        monitor: Told of finished prompts after every forward.

    Returns:
        The trace; one made earlier by the same work is opened instead of made again.

    Raises:
        InterpretOpsError: When there are no prompts, one is too long, the model lacks a site, a
            value is not finite, or the disk is full.
        Cancelled: When the monitor stops the work; finished shards are kept.
    """
    if not len(prompts):
        raise InterpretOpsError(
            f"there are no prompts to trace in {prompts.source}",
            fix="choose a file, split or category that holds prompts",
        )
    tokens = tokenise(model, prompts, spec)
    work = TraceWork(trace=spec, prompts_sha256=prompts.sha256, tokens_sha256=tokens.sha256)
    made = store.find(ArtifactKind.TRACE, work, model=model.ref)
    if made is not None:
        monitor.update(_STAGE, len(prompts), len(prompts))
        return Trace.open(store, made.id)
    with store.draft(ArtifactKind.TRACE, work, model=model.ref) as draft:
        tracer = _Tracer(model, prompts, spec, tokens)
        tracer.run(draft, monitor)
        manifest = draft.commit(
            summary={
                "prompts": len(prompts),
                "tokens": len(tokens.ids),
                "rows": tracer.index.rows,
                "sites": list(tracer.index.sites),
                "positions": spec.positions,
                "dtype": spec.dtype,
                "truncated": tokens.truncated,
                "chat_template_sha256": tracer.index.chat_template_sha256,
                "redacted": None if prompts.redacted is None else list(prompts.redacted),
            },
            redactions=prompts.redactions,
        )
    return Trace.open(store, manifest.id)


@dataclass(frozen=True)
class _Kept:
    """The tokens of each prompt that have rows: `count` from `first` on, both `[prompts]`."""

    first: NDArray[np.int64]
    count: NDArray[np.int64]


def _kept(tokens: Tokenised, spec: TraceSpec) -> _Kept:
    lengths = tokens.lengths
    if spec.positions == "last":
        return _Kept(lengths - 1, np.ones_like(lengths))
    if spec.positions == "prompt":
        first = tokens.text_start.astype(np.int64)
        return _Kept(first, tokens.text_end - first)
    return _Kept(np.zeros_like(lengths), lengths)


class _Tracer:
    def __init__(
        self, model: HookedModel, prompts: PromptSet, spec: TraceSpec, tokens: Tokenised
    ) -> None:
        self.model = model
        self.prompts = prompts
        self.spec = spec
        self.tokens = tokens
        self.dtype = _DTYPES[spec.dtype]
        self.sites = [site(name) for name in spec.sites]
        self.kept = _kept(tokens, spec)
        widths = self._widths()
        row_bytes = sum(widths.values()) * self.dtype.itemsize
        self.plan: Plan = make_plan(
            tokens.lengths.tolist(),
            self.kept.count.tolist(),
            batch_tokens=spec.batch_tokens,
            batch_size=spec.batch_size,
            shard_rows=max(1, int(spec.shard_mb * 2**20 / row_bytes)),
        )
        self.index = TraceIndex(
            spec=spec,
            sites={str(address): width for address, width in widths.items()},
            rows=int(self.kept.count.sum()),
            dtype=spec.dtype,
            positions=spec.positions,
            chat_template_sha256=template_hash(model, spec),
            prompt_source=prompts.source,
            redacted=prompts.redacted,
            shards=tuple(
                Shard(file=f"shard-{number:05d}.safetensors", rows=shard.rows)
                for number, shard in enumerate(self.plan.shards)
            ),
        )
        self.row_bytes = row_bytes
        self.beginning = Beginning(model, map(tokens.row, range(len(tokens))), self.sites)

    def _widths(self) -> dict[Address, int]:
        """Width of each site, from a forward over one token."""
        probe = Batch.from_ids(
            [self.tokens.row(0)[:1]], pad_id=self.model.pad_id, device=self.model.device
        )
        found = self.model.capture(probe, self.sites)
        for address, value in found.items():
            if value.ndim != 3:
                raise InterpretOpsError(
                    f"{address} has no row per token (its shape is {list(value.shape)})",
                    fix="trace sites such as resid_post, z, attn_out or mlp_out",
                )
        return {address: int(value.shape[-1]) for address, value in found.items()}

    def run(self, draft: Draft, monitor: Monitor) -> None:
        paths = [draft.path / shard.file for shard in self.index.shards]
        missing = [number for number, path in enumerate(paths) if not self._is_whole(number, path)]
        self._check_space(draft.path, sum(self.index.shards[number].rows for number in missing))
        draft.write_bytes(
            PROMPTS,
            b"".join(prompt.model_dump_json().encode() + b"\n" for prompt in self.prompts),
        )
        draft.write_tensors(TOKENS, self._token_table())
        draft.write_json(INDEX, self.index)

        done = sum(
            len(batch.prompts)
            for number, shard in enumerate(self.plan.shards)
            if number not in set(missing)
            for batch in shard.batches
        )
        monitor.update(_STAGE, done, len(self.prompts))
        started, seen = time.perf_counter(), 0
        for number in missing:
            shard = self.plan.shards[number]
            rows = self._buffers(shard)
            filled = 0
            for batch in shard.batches:
                self._fill(batch, rows, filled)
                filled += batch.rows
                done += len(batch.prompts)
                seen += sum(int(self.tokens.lengths[prompt]) for prompt in batch.prompts)
                speed = seen / max(time.perf_counter() - started, 1e-9)
                monitor.update(_STAGE, done, len(self.prompts), tokens_per_s=speed)
            draft.write_tensors(paths[number].name, rows)

    def _buffers(self, shard: PlannedShard) -> dict[str, torch.Tensor]:
        return {
            name: torch.empty((shard.rows, width), dtype=self.dtype)
            for name, width in self.index.sites.items()
        }

    def _fill(self, batch: PlannedBatch, rows: dict[str, torch.Tensor], at: int) -> None:
        """Put the activations of a batch into a shard's buffers from row `at` on."""

        def run(chunk: Sequence[int]) -> Sequence[dict[str, torch.Tensor]]:
            return self._forward(chunk, batch.width)

        for found in run_batched(batch.prompts, run, len(batch.prompts)):
            for name, values in found.items():
                rows[name][at : at + len(values)] = values
            at += len(values)

    def _forward(self, chunk: Sequence[int], width: int) -> list[dict[str, torch.Tensor]]:
        """The kept rows of each prompt of a chunk, padded to `width` tokens."""
        rows = [self.tokens.row(prompt) for prompt in chunk]
        first = torch.from_numpy(self.kept.first[list(chunk)])[:, None]
        count = torch.from_numpy(self.kept.count[list(chunk)])[:, None]
        position = torch.arange(width)[None]
        wanted = ((position >= first) & (position < first + count)).to(self.model.device)
        sizes = count[:, 0].tolist()
        found: list[dict[str, torch.Tensor]] = [{} for _ in chunk]
        for address, values in self.beginning.capture(rows, width=width).items():
            kept = values[wanted].to(self.dtype)
            if not bool(torch.isfinite(kept).all()):
                raise self._not_finite(address, kept, values[wanted], chunk, sizes)
            kept, end = kept.cpu(), 0
            for per_site, size in zip(found, sizes, strict=True):
                per_site[str(address)] = kept[end : end + size]
                end += size
        return found

    def _not_finite(
        self,
        address: Address,
        stored: torch.Tensor,
        computed: torch.Tensor,
        chunk: Sequence[int],
        sizes: Sequence[int],
    ) -> InterpretOpsError:
        bad = (~torch.isfinite(stored)).any(-1).nonzero()[0, 0]
        ends = torch.tensor(sizes).cumsum(0)
        which = int(torch.searchsorted(ends, bad.cpu(), right=True))
        prompt = chunk[which]
        before = int(ends[which]) - sizes[which]
        position = int(self.kept.first[prompt]) + int(bad) - before
        where = f"at {address} for token {position} of prompt {self.prompts[prompt].id!r}"
        if bool(torch.isfinite(computed[bad]).all()):
            return InterpretOpsError(
                f"a value is too large for {self.spec.dtype} {where}",
                fix="set the trace's dtype to bfloat16 or float32",
            )
        kind = "NaN" if bool(torch.isnan(computed[bad]).any()) else "infinite"
        return InterpretOpsError(
            f"the model gives a {kind} value {where}",
            fix="check that the model's weights are whole, or set model.dtype to float32",
        )

    def _token_table(self) -> dict[str, torch.Tensor]:
        tokens = self.tokens
        row_start = self.plan.row_starts(self.kept.count)
        return {
            "ids": torch.from_numpy(tokens.ids),
            "start": torch.from_numpy(tokens.start),
            "text_start": torch.from_numpy(tokens.text_start.copy()),
            "text_end": torch.from_numpy(tokens.text_end.copy()),
            "row_start": torch.from_numpy(row_start),
            "row_count": torch.from_numpy(self.kept.count),
            "first_position": torch.from_numpy(self.kept.first),
        }

    def _is_whole(self, number: int, path: Path) -> bool:
        """Whether an earlier run finished this shard."""
        if not path.is_file():
            return False
        rows = self.index.shards[number].rows
        try:
            with safe_open(path, framework="pt") as file:
                shapes = {
                    name: tuple(file.get_slice(name).get_shape()) for name in list(file.keys())
                }
        except (SafetensorError, OSError):
            return False
        return shapes == {name: (rows, width) for name, width in self.index.sites.items()}

    def _check_space(self, folder: Path, rows: int) -> None:
        needed = rows * self.row_bytes
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise InterpretOpsError(
                f"the trace needs {needed / 2**30:.2f} GiB more but the disk that holds {folder} "
                f"has {free / 2**30:.2f} GiB free",
                fix="free space, set cache.dir to another disk, or trace fewer sites or "
                "positions=last",
            )
