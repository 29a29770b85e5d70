"""Prompts that a request gives or points to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

from interpretops.evals import DatasetSettings
from interpretops.evals.datasets import fetch, fetch_prompts
from interpretops.prompts import (
    PromptSet,
    Split,
    balanced,
    contrast_set,
    twins,
)
from interpretops_protos.plain import to_plain

from interpretops_service.engine.specs import to_spec
from interpretops_service.errors import RequestError

if TYPE_CHECKING:
    from interpretops.prompts import Redactor
    from interpretops_platform.settings import Settings
    from interpretops_protos.v1.prompt_pb2 import PromptSource


def dataset_settings(settings: Settings) -> DatasetSettings:
    """Where data that requests point to is fetched from, and kept."""
    return DatasetSettings(cache_dir=settings.cache.dir, s3_endpoint=settings.store.s3_endpoint)


def fetched_file(uri: str, settings: Settings) -> Path | str:
    """A file on this machine with what is at a canonical address; `package:NAME` stays as it is.

    Raises:
        InterpretOpsError: When there is nothing there.
    """
    return fetch(uri, folder=Path(), settings=dataset_settings(settings))


def load_texts(uri: str, settings: Settings) -> list[str]:
    """The documents at a canonical address, one per line or record.

    Raises:
        InterpretOpsError: When there is nothing there that can be read.
    """
    found = fetch_prompts(uri, folder=Path(), redact=None, settings=dataset_settings(settings))
    return found.texts


def load_prompts(
    source: PromptSource, settings: Settings, redact: Redactor | None, *, path: str
) -> PromptSet:
    """The prompts of a source, scrubbed, and of them those that it takes.

    Args:
        source: From a request that callers have been checked to be allowed to make.
        settings: Where data is fetched from.
        redact: Scrubs personal information before anything else sees the prompts.
        path: Where the source stands in the request.

    Raises:
        RequestError: When it takes none.
        InterpretOpsError: When the source cannot be read.
    """
    if source.HasField("inline"):
        given = to_spec(PromptSet, source.inline, path=f"{path}.inline", source="the request")
        loaded = given if redact is None else given.redact(redact)
    else:
        loaded = fetch_prompts(
            source.uri, folder=Path(), redact=redact, settings=dataset_settings(settings)
        )
    asked = to_plain(source)
    split: Split | None = asked.get("split")
    prompts = loaded
    if split is not None and any(prompt.split is not None for prompt in loaded):
        prompts = loaded.where(split=split)
    if source.HasField("wrappers_uri"):
        prompts = _dressed(prompts, source.wrappers_uri, split, settings)
    prompts = prompts.where(
        category=asked.get("category"), topic=asked.get("topic"), wrapper=asked.get("wrapper")
    )
    if source.use_twins:
        prompts = twins(prompts)
    if source.HasField("limit"):
        prompts = balanced(prompts, source.limit)
    if not len(prompts):
        raise RequestError(
            f"{path}: no prompt of {loaded.source} is taken",
            fix="choose another split, category, topic or wrapper, or give prompts with twins",
            field=path,
        )
    return prompts


def _dressed(
    prompts: PromptSet, wrappers_uri: str, split: Split | None, settings: Settings
) -> PromptSet:
    """The prompts, bare and dressed in wrappers of their own splits."""
    wrappers = fetch_prompts(
        wrappers_uri, folder=Path(), redact=None, settings=dataset_settings(settings)
    )
    present = {prompt.split for prompt in prompts}
    splits = [each for each in get_args(Split) if each in present] if split is None else [split]
    dressed = [prompt for each in splits for prompt in contrast_set(prompts, wrappers, split=each)]
    return prompts.model_copy(update={"prompts": (*prompts.prompts, *dressed)})
