"""A master key that never leaves AWS KMS. It needs the extra `kms`."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from interpretops_platform.errors import PlatformError, SettingsError
from interpretops_platform.objects.sealed import MasterKey, SealBrokenError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

_MAGIC = b"AWSKMS01"
_FOREIGN = {"InvalidCiphertextException", "IncorrectKeyException"}
_MISCONFIGURED = {
    "AccessDeniedException",
    "DisabledException",
    "InvalidArnException",
    "InvalidKeyUsageException",
    "KMSInvalidStateException",
    "NotFoundException",
    "UnrecognizedClientException",
    "ValidationException",
}
_CACHE_SECONDS = 300.0
_MAX_CACHED = 1000
_CONNECT_SECONDS, _READ_SECONDS = 5, 10


class KeyServiceUnavailableError(PlatformError):
    """The key management service did not answer; the same call may work later."""

    transient: ClassVar[bool] = True

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the key management service failed: {what}",
            fix="try again; if it persists, check its address and its limits",
        )


class KmsMasterKey:
    """Has data keys wrapped and unwrapped by AWS KMS, bound to their tenant.

    Unwrapped keys are remembered for five minutes, so that an object costs no call. Address, region
    and credentials come from where every AWS client takes them.

    Args:
        key_id: Id, alias or ARN of the symmetric key that wraps. Keys of KMS that wrapped before
            still unwrap, as long as the role of this process may use them.
        before: Unwraps what a file's key wrapped, while tenants move from it to KMS.

    Raises:
        SettingsError: When the extra is not installed, or no region is configured.
    """

    def __init__(self, key_id: str, *, before: MasterKey | None = None) -> None:
        self._client = _client()
        self._key_id = key_id
        self._before = before
        self._held: dict[tuple[bytes, UUID], tuple[float, bytes]] = {}

    def wrap(self, data_key: bytes, tenant_id: UUID) -> bytes:
        """Encrypt a data key for keeping; it opens for this tenant only.

        Raises:
            SettingsError: When KMS does not let this process use the key.
            KeyServiceUnavailableError: When KMS does not answer.
        """
        with _translated():
            answer = self._client.encrypt(
                KeyId=self._key_id, Plaintext=data_key, EncryptionContext=_context(tenant_id)
            )
        return _MAGIC + bytes(answer["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, tenant_id: UUID) -> bytes:
        """The data key again.

        Raises:
            SealBrokenError: When it was not wrapped for this tenant by a key we may use.
            SettingsError: When KMS does not let this process use the key.
            KeyServiceUnavailableError: When KMS does not answer.
        """
        if not wrapped.startswith(_MAGIC):
            if self._before is None:
                raise SealBrokenError("the data key of the tenant")
            return self._before.unwrap(wrapped, tenant_id)
        until, data_key = self._held.get((wrapped, tenant_id), (0.0, b""))
        if time.monotonic() < until:
            return data_key
        with _translated():
            answer = self._client.decrypt(
                CiphertextBlob=wrapped[len(_MAGIC) :], EncryptionContext=_context(tenant_id)
            )
        data_key = bytes(answer["Plaintext"])
        if len(self._held) >= _MAX_CACHED:
            self._held.clear()
        self._held[wrapped, tenant_id] = (time.monotonic() + _CACHE_SECONDS, data_key)
        return data_key


def _client() -> Any:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import NoRegionError
    except ImportError:
        raise SettingsError(
            "security.master_key_kms needs a package that is not installed",
            fix="pip install 'interpretops-platform[kms]'",
        ) from None
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "max_attempts": 4},
    )
    try:
        return boto3.client("kms", config=config)
    except NoRegionError:
        raise SettingsError(
            "no region is configured for AWS KMS", fix="set AWS_REGION, such as ap-southeast-2"
        ) from None


@contextmanager
def _translated() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        # The full text names the account and the role; only the code is for users.
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        if code in _FOREIGN:
            raise SealBrokenError("the data key of the tenant") from None
        if code in _MISCONFIGURED:
            raise SettingsError(
                f"AWS KMS refuses the master key: {code}",
                fix="check security.master_key_kms and what this process's role may do with it",
            ) from None
        raise KeyServiceUnavailableError(code) from error
    except NoCredentialsError:
        raise SettingsError(
            "there are no credentials for AWS KMS", fix="give this process a role that may use it"
        ) from None
    except BotoCoreError as error:
        raise KeyServiceUnavailableError(type(error).__name__) from error


def _context(tenant_id: UUID) -> dict[str, str]:
    return {"interpretops-tenant": str(tenant_id)}
