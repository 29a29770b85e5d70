"""What a request names outside itself: artifacts, addresses of data, and models.

Found by walking its message, so that no service can leave one out of its checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from interpretops_platform.security.uris import UriGuard, UriRefusedError, UriUse
from interpretops_protos.v1.artifact_pb2 import ArtifactRef
from interpretops_protos.v1.model_pb2 import ModelSpec

from interpretops_service.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

BUILTIN = "builtin:"
"""How names of models begin that come with the engine."""

ARTIFACT_FIELDS = {
    "trace": "trace",
    "dictionary": "dictionary",
    "circuit": "circuit",
    "artifact": "policy",
    "files": "policy",
    "risk_card": "risk_card",
}
"""By the name of a field of artifacts: the kind that it takes."""


@dataclass(frozen=True)
class NamedArtifact:
    """An artifact that a request names.

    Attributes:
        path: The field, such as `policy.artifact`.
        ref: What stands there.
        kind: What it must be, as manifests say it.
    """

    path: str
    ref: ArtifactRef
    kind: str


@dataclass(frozen=True)
class NamedData:
    """An address of data that a request names; `holder.field` is where it stands."""

    path: str
    holder: Message
    field: str


@dataclass(frozen=True)
class NamedModel:
    """A model that a request names."""

    path: str
    spec: ModelSpec


Named = NamedArtifact | NamedData | NamedModel


def named_in(message: Message, path: str = "") -> Iterator[Named]:
    """Everything a message names, wherever it stands in it."""
    for field, value in message.ListFields():
        here = f"{path}.{field.name}" if path else field.name
        if field.message_type is None:
            if field.name == "uri" or field.name.endswith("_uri"):
                yield NamedData(here, message, field.name)
        elif field.message_type.GetOptions().map_entry:
            continue  # no map of a contract holds messages
        elif field.is_repeated:
            for i, item in enumerate(value):
                yield from _named(f"{here}[{i}]", field.name, item)
        else:
            yield from _named(here, field.name, value)


def _named(path: str, field: str, value: Message) -> Iterator[Named]:
    if isinstance(value, ArtifactRef):
        yield NamedArtifact(path, value, ARTIFACT_FIELDS[field])
    elif isinstance(value, ModelSpec):
        yield NamedModel(path, value)
    else:
        yield from named_in(value, path)


async def require_allowed(message: Message, guard: UriGuard) -> None:
    """Go on only if callers may name all the data and models that a message names.

    What it names is written back in its canonical form.

    Raises:
        RequestError: When they may not; it names the field.
    """
    for named in named_in(message):
        if isinstance(named, NamedData):
            uri = getattr(named.holder, named.field)
            setattr(named.holder, named.field, await allowed_data(uri, guard, named.path))
        elif isinstance(named, NamedModel):
            named.spec.name = await allowed_model(named.spec.name, guard, f"{named.path}.name")


async def allowed_data(uri: str, guard: UriGuard, path: str) -> str:
    """The canonical address of data, if callers may name it.

    Raises:
        RequestError: When they may not.
    """
    try:
        return (await guard.check(uri, UriUse.DATASET)).uri
    except UriRefusedError as error:
        raise RequestError(error.problem, fix=error.fix, field=path) from None


async def allowed_model(name: str, guard: UriGuard, path: str) -> str:
    """The canonical name of a model, if callers may name it: built in, a hub id, or a `file://`.

    Raises:
        RequestError: When they may not.
    """
    if name.startswith(BUILTIN):
        return name
    uri = Path(name).as_uri() if name.startswith("/") else name
    if uri.startswith("s3:"):
        raise RequestError(
            "models are not read from buckets", fix="give a hub id or a folder", field=path
        )
    try:
        return (await guard.check(uri, UriUse.MODEL)).uri
    except UriRefusedError as error:
        raise RequestError(error.problem, fix=error.fix, field=path) from None
