"""Certificates from files, read again when they change, for both sides of a connection."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from interpretops_platform.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from interpretops_platform.rpc.settings import TlsSettings

logger = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Certificates:
    """What is in the files; all PEM."""

    chain: bytes
    key: bytes = field(repr=False)
    authority: bytes

    def server(self) -> grpc.ServerCertificateConfiguration:
        """For the side that listens."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.authority)

    def channel(self) -> grpc.ChannelCredentials:
        """For the side that connects."""
        return grpc.ssl_channel_credentials(self.authority, self.key, self.chain)


class CertificateFiles:
    """The files of one process; threads may share it.

    Args:
        settings: Where they are.

    Raises:
        SettingsError: When one is missing or malformed, or the key is not that of the certificate.
    """

    def __init__(self, settings: TlsSettings) -> None:
        self._paths = (settings.certificate, settings.key, settings.authority)
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._current = _read(*self._paths)

    def current(self) -> Certificates:
        """The newest certificates that belong together.

        Files are replaced one by one, so a new certificate may stand beside an old key for a moment;
        then, and when a file is gone, the ones read before go on.
        """
        with self._lock:
            try:
                stamp = self._look()
                if stamp != self._stamp:
                    self._current = _read(*self._paths)
                    self._stamp = stamp
                    logger.info("certificates were read again")
            except SettingsError as error:
                logger.warning("new certificates are not used yet: %s", error)
            return self._current

    def _look(self) -> _Stamp:
        try:
            stats = [path.stat() for path in self._paths]
        except OSError as error:
            raise SettingsError(
                f"certificate file {error.filename} cannot be read ({error.strerror})",
                fix="correct grpc.tls",
            ) from None
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)


def server_credentials(files: CertificateFiles) -> grpc.ServerCredentials:
    """Credentials of a server that asks every caller for a certificate of the authority."""
    return grpc.dynamic_ssl_server_credentials(
        files.current().server(),
        lambda: files.current().server(),
        require_client_authentication=True,
    )


def _read(certificate: Path, key: Path, authority: Path) -> Certificates:
    try:
        found = Certificates(
            chain=certificate.read_bytes(), key=key.read_bytes(), authority=authority.read_bytes()
        )
        public = x509.load_pem_x509_certificates(found.chain)[0].public_key()
        private = load_pem_private_key(found.key, password=None)
        x509.load_pem_x509_certificates(found.authority)
    except (OSError, ValueError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not as PEM should be"
        raise SettingsError(
            f"the certificate files cannot be read ({reason})", fix="correct grpc.tls"
        ) from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != private.public_key().public_bytes(*form):
        raise SettingsError(
            f"{key} is not the key of {certificate}", fix="put the two that belong together there"
        )
    return found
