"""Blobs in a bucket of S3, MinIO or anything that speaks their protocol."""

from __future__ import annotations

import base64
import hashlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials import (
    ChainedProvider,
    EnvAWSProvider,
    IamAwsProvider,
    Provider,
    StaticProvider,
)
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from minio.sse import Sse, SseKMS, SseS3

from interpretops_platform.errors import SettingsError
from interpretops_platform.objects.blobs import BlobEntry, BlobNotFoundError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta
    from pathlib import Path

    from interpretops_platform.settings import ObjectsSettings

_CONNECT_SECONDS = 5
_READ_SECONDS = 60
_MEGABYTE = 1 << 20
_MISSING = {"NoSuchKey", "NoSuchObject", "NotFound"}


class S3Blobs:
    """Keys are object names in one bucket.

    Args:
        settings: Endpoint, bucket, credentials, style of address, encryption at rest.

    Raises:
        SettingsError: When no bucket is configured or the endpoint is no URL.
    """

    def __init__(self, settings: ObjectsSettings) -> None:
        parts = urlsplit(settings.endpoint)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.username:
            raise SettingsError(
                "objects.endpoint is no address of an S3 server",
                fix="write it as https://host:port, with the credentials in settings of their own",
            )
        if not settings.bucket:
            raise SettingsError("no bucket is configured", fix="set objects.bucket")
        self._bucket = settings.bucket
        self._sse = _encryption(settings)
        self._part_size = settings.part_mb * _MEGABYTE
        self._client = Minio(
            parts.netloc,
            secure=parts.scheme == "https",
            region=settings.region,
            credentials=_credentials(settings),
            http_client=urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
                retries=urllib3.Retry(
                    total=3, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]
                ),
            ),
        )
        if settings.path_style:
            self._client.disable_virtual_style_endpoint()
        else:
            self._client.enable_virtual_style_endpoint()

    def ensure_bucket(self) -> None:
        """Make the bucket if there is none.

        Raises:
            StoreUnavailableError: When that fails.
        """
        with _translated():
            if not self._client.bucket_exists(bucket_name=self._bucket):
                self._client.make_bucket(bucket_name=self._bucket)

    def uri(self, key: str) -> str:
        """The address of a key."""
        return f"s3://{self._bucket}/{key}"

    def write(self, key: str, source: Path) -> None:
        """Upload a file, in parts where it is large; it appears when the last part is in.

        Raises:
            StoreUnavailableError: When that fails.
        """
        with _translated():
            self._client.fput_object(
                bucket_name=self._bucket,
                object_name=key,
                file_path=str(source),
                sse=self._sse,
                part_size=self._part_size,
                metadata=self._checksum(source),
            )

    def _checksum(self, source: Path) -> dict[str, str]:
        """What has the server refuse bytes that changed on the way; Object Lock asks for it.

        A file that is sent in parts is checked part by part.
        """
        if source.stat().st_size > self._part_size:
            return {}
        with source.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").digest()
        return {
            "x-amz-sdk-checksum-algorithm": "SHA256",
            "x-amz-checksum-sha256": base64.b64encode(digest).decode(),
        }

    @contextmanager
    def read(self, key: str) -> Iterator[IO[bytes]]:
        """Open a blob for reading.

        Raises:
            BlobNotFoundError: When there is none.
            StoreUnavailableError: When it cannot be read, or stops coming.
        """
        with _translated():
            response = self._client.get_object(bucket_name=self._bucket, object_name=key)
            try:
                yield cast("IO[bytes]", response)
            finally:
                response.close()
                response.release_conn()

    def written_at(self, key: str) -> datetime | None:
        """When a blob was written last; none where there is no blob.

        Raises:
            StoreUnavailableError: When that cannot be told.
        """
        try:
            with _translated():
                found = self._client.stat_object(bucket_name=self._bucket, object_name=key)
        except BlobNotFoundError:
            return None
        return cast("datetime", found.last_modified)

    def entries(self, prefix: str) -> Iterator[BlobEntry]:
        """What is there under keys that begin so.

        Parts of uploads that were cut off are no objects; a rule of the bucket removes them.

        Raises:
            StoreUnavailableError: When that cannot be told.
        """
        with _translated():
            for found in self._client.list_objects(
                bucket_name=self._bucket, prefix=prefix, recursive=True
            ):
                yield BlobEntry(found.object_name, found.last_modified, found.size)

    def ever(self, prefix: str) -> Iterator[str]:
        """Keys that begin so and were ever written: those of every version that is still there.

        Raises:
            StoreUnavailableError: When that cannot be told.
        """
        with _translated():
            for found in self._client.list_objects(
                bucket_name=self._bucket, prefix=prefix, recursive=True, include_version=True
            ):
                if not found.is_delete_marker:
                    yield found.object_name

    def delete(self, key: str) -> None:
        """Remove a blob.

        Raises:
            StoreUnavailableError: When it cannot be removed.
        """
        with _translated():
            self._client.remove_object(bucket_name=self._bucket, object_name=key)

    def presign(self, key: str, expires: timedelta) -> str:
        """A URL that anyone can read the blob from for a while.

        Raises:
            StoreUnavailableError: When the credentials cannot be had.
        """
        with _translated():
            url: str = self._client.presigned_get_object(
                bucket_name=self._bucket, object_name=key, expires=expires
            )
            return url


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except S3Error as error:
        if error.code in _MISSING:
            raise BlobNotFoundError(error.code) from None
        # The full text of the error holds the address and the request; only the code is for users.
        raise StoreUnavailableError(str(error.code)) from error
    except (MinioException, InvalidResponseError, ServerError) as error:
        raise StoreUnavailableError(type(error).__name__) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise StoreUnavailableError(type(error).__name__) from error


def _credentials(settings: ObjectsSettings) -> Provider:
    if settings.access_key is not None and settings.secret_key is not None:
        return StaticProvider(
            settings.access_key.get_secret_value(), settings.secret_key.get_secret_value()
        )
    # On a cluster the machine or the service account has a role instead of a key.
    return ChainedProvider([EnvAWSProvider(), IamAwsProvider()])


def _encryption(settings: ObjectsSettings) -> Sse | None:
    if settings.sse == "s3":
        return SseS3()
    if settings.sse == "kms":
        context: dict[str, Any] = {}
        return SseKMS(settings.kms_key_id, context)
    return None
