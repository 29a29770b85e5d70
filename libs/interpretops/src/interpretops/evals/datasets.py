"""Where a suite's prompts come from: files, S3-compatible stores, the hub, the package.

Everything but files and the package is fetched once into a folder below the cache and read from
there; libraries for it are imported only when it is asked for.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict

from interpretops.errors import InterpretOpsError
from interpretops.prompts import load_prompts

if TYPE_CHECKING:
    from interpretops.prompts import PromptSet, Redactor

_READABLE = (".jsonl", ".json", ".csv", ".tsv", ".txt")


class DatasetSettings(BaseModel):
    """What fetching needs to know.

    Attributes:
        cache_dir: Downloads are kept in `datasets/` below it.
        s3_endpoint: Such as `https://s3.ap-southeast-2.amazonaws.com`. Credentials are taken from
            the environment, as every S3 client does.
        s3_region: The region to sign for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cache_dir: Path = Path("./.io_cache")
    s3_endpoint: str | None = None
    s3_region: str | None = None


def fetch_prompts(
    uri: str, *, folder: Path, redact: Redactor | None, settings: DatasetSettings
) -> PromptSet:
    """Prompts at a URI.

    Args:
        uri: A path (relative ones below `folder`), `file://`, `s3://bucket/key`,
            `hf://owner/name[/file]`, or `package:NAME`.
        folder: Where relative paths begin.
        redact: Scrubs personal information; see `load_prompts`.
        settings: Where S3 is and where downloads are kept.

    Raises:
        InterpretOpsError: When the scheme is unknown or there is nothing readable at the URI.
    """
    return load_prompts(fetch(uri, folder=folder, settings=settings), redact=redact)


def fetch(uri: str, *, folder: Path, settings: DatasetSettings) -> Path | str:
    """A file on this machine with what is at a URI; `package:NAME` stays as it is.

    Args:
        uri: As for `fetch_prompts`.
        folder: Where relative paths begin.
        settings: Where S3 is and where downloads are kept.

    Raises:
        InterpretOpsError: When the scheme is unknown or there is nothing at the URI.
    """
    if uri.startswith("package:"):
        return uri
    parts = urlsplit(uri)
    if parts.scheme == "s3":
        return _from_s3(uri, settings)
    if parts.scheme == "hf":
        return _from_hub(uri, settings)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise InterpretOpsError(
                f"{uri} names a host", fix=f"write file:///{parts.netloc}{parts.path}"
            )
        return Path(unquote(parts.path))
    if "://" in uri:
        raise InterpretOpsError(
            f"datasets cannot be read from {parts.scheme}://",
            fix="use a path, file://, s3://, hf:// or package:",
        )
    return folder / Path(uri).expanduser()


def _kept(uri: str, suffix: str, settings: DatasetSettings) -> Path:
    name = hashlib.sha256(uri.encode()).hexdigest()[:24]
    path = settings.cache_dir / "datasets" / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _from_s3(uri: str, settings: DatasetSettings) -> Path:
    parts = urlsplit(uri)
    bucket, key = parts.netloc, parts.path.lstrip("/")
    if not bucket or not key:
        raise InterpretOpsError(f"{uri} is not an object", fix="write s3://bucket/key")
    if settings.s3_endpoint is None:
        raise InterpretOpsError(
            f"{uri} needs to know where S3 is", fix="set store.s3_endpoint in config.yaml"
        )
    try:
        from minio import Minio
        from minio.credentials import EnvAWSProvider
        from minio.error import MinioException
        from urllib3.exceptions import HTTPError
    except ImportError as error:
        raise InterpretOpsError(
            f"{uri} needs the S3 client", fix="pip install 'interpretops[s3]'"
        ) from error
    endpoint = urlsplit(settings.s3_endpoint)
    if endpoint.scheme not in ("http", "https") or not endpoint.netloc:
        raise InterpretOpsError(
            f"store.s3_endpoint {settings.s3_endpoint!r} is not a URL",
            fix="begin it with https:// (or http://)",
        )
    path = _kept(f"{settings.s3_endpoint} {uri}", Path(key).suffix, settings)
    client = Minio(
        endpoint.netloc,
        secure=endpoint.scheme == "https",
        region=settings.s3_region,
        credentials=EnvAWSProvider() if os.environ.get("AWS_ACCESS_KEY_ID") else None,
    )
    try:
        # Asked anew every time: an object under the same name may have changed.
        client.fget_object(bucket, key, str(path))
    except (MinioException, HTTPError, OSError, ValueError) as error:
        raise InterpretOpsError(
            f"{uri} could not be fetched ({_short(error)})",
            fix="check the bucket, the key, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that "
            "the endpoint can be reached",
        ) from error
    return path


def _from_hub(uri: str, settings: DatasetSettings) -> Path:
    parts = urlsplit(uri)
    names = [name for name in parts.path.split("/") if name]
    if not parts.netloc or not names:
        raise InterpretOpsError(f"{uri} is not a dataset", fix="write hf://owner/name")
    from huggingface_hub import HfApi, hf_hub_download

    repo, inside = f"{parts.netloc}/{names[0]}", "/".join(names[1:])
    try:
        if not inside:
            files = HfApi().list_repo_files(repo, repo_type="dataset")
            readable = sorted(
                (name for name in files if name.endswith(_READABLE)),
                key=lambda name: ("test" not in name, name),
            )
            if not readable:
                raise InterpretOpsError(
                    f"{repo} holds no JSON, CSV or text file",
                    fix="export it to JSONL and name that file",
                )
            inside = readable[0]
        return Path(
            hf_hub_download(
                repo, inside, repo_type="dataset", cache_dir=settings.cache_dir / "datasets"
            )
        )
    except InterpretOpsError:
        raise
    except Exception as error:  # the hub's transport, and so its errors, differ by version
        raise InterpretOpsError(
            f"{uri} could not be fetched from the hub ({_short(error)})",
            fix="check the name and the network, or download the file and give its path",
        ) from error


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else f"{text[:117]}..."
