"""Guard for every URI that a caller may name, so that nobody makes a server read or reach what is its own.

What may be named depends on the use. What comes out is canonical: pass that on, not the caller's text.
Web addresses are checked when the connection is made, for the very address it goes to, so a name that
resolves differently a moment later (DNS rebinding) and a redirect gain nothing.
"""

from __future__ import annotations

import asyncio
import fnmatch
import ipaddress
import os
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

import httpx
from pydantic import BaseModel, ConfigDict

from interpretops_platform.errors import PlatformError

if TYPE_CHECKING:
    import ssl

_IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host name and a port to its addresses."""

_MAX_URI = 2048
_HUB_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"{_HUB_NAME}(?:/{_HUB_NAME})?", re.ASCII)
_PACKAGE = re.compile(r"[a-z0-9](?:[a-z0-9_-]|\.(?!\.)){0,99}", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_HOST = re.compile(
    r"(?=.{1,253}\.?$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.|$))+", re.ASCII
)
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


def _networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# IANA IPv4 and IPv6 special-purpose address registries (RFC 6890 and later), spelt out because what
# `ipaddress.is_global` says differs between versions of Python.
_NOT_PUBLIC = _networks(
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",  # carrier-grade NAT
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",
    "168.63.129.16/32",  # the platform address of Azure, public by its number only
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",  # 6to4 carries an IPv4 address that a relay would unpack
    "3fff::/20",
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Where clouds keep credentials of the machine, and what is no destination: closed to trusted hosts too.
_NEVER = _networks(
    "0.0.0.0/8",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "192.0.0.192/32",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
    "fe80::/10",
    "ff00::/8",
)


class UriRefusedError(PlatformError):
    """A URI names something that callers may not make this installation read or reach."""


class UriUse(StrEnum):
    """What a URI is for; it decides what may be named."""

    DATASET = "dataset"
    """`package:NAME`, `hf://owner/name[/file]`, `s3://bucket/key`, `file:///path`."""
    MODEL = "model"
    """A hub id, `s3://bucket/key`, `file:///path`."""
    WEBHOOK = "webhook"
    """`https://`, and `http://` where allowed."""
    TELEMETRY = "telemetry"
    """An OTLP endpoint: as for webhooks."""


_SCHEMES = {
    UriUse.DATASET: ("package", "hf", "s3", "file"),
    UriUse.MODEL: ("s3", "file"),
    UriUse.WEBHOOK: ("https", "http"),
    UriUse.TELEMETRY: ("https", "http"),
}


class UriSettings(BaseModel):
    """What callers may name; by default no file, no bucket, and only public hosts by `https`.

    Attributes:
        folders: Files and folders below these may be read. Callers must not be able to write there.
        buckets: `bucket` or `bucket/prefix`: objects that may be read. Never name the bucket of the
            platform's own objects.
        hub_ids: Patterns such as `HuggingFaceTB/*`; none allows every id.
        trusted_hosts: `host` or `host:port`: may have a private address, such as an internal collector.
        plain_http: Whether `http://` is allowed beside `https://`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folders: tuple[Path, ...] = ()
    buckets: tuple[str, ...] = ()
    hub_ids: tuple[str, ...] | None = None
    trusted_hosts: tuple[str, ...] = ()
    plain_http: bool = False


@dataclass(frozen=True, slots=True)
class PackageData:
    """Data that comes with the engine."""

    uri: str
    name: str


@dataclass(frozen=True, slots=True)
class HubEntry:
    """A model or dataset of the hub; `file` is empty for the whole of it."""

    uri: str
    id: str
    file: str


@dataclass(frozen=True, slots=True)
class BucketObject:
    """An object of an S3-compatible store."""

    uri: str
    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class LocalPath:
    """A file or folder with all symbolic links followed."""

    uri: str
    path: Path


@dataclass(frozen=True, slots=True)
class WebAddress:
    """A web address whose host had only permitted addresses a moment ago; use `guarded_client` with it."""

    uri: str
    host: str
    port: int
    addresses: tuple[str, ...]


CheckedUri = PackageData | HubEntry | BucketObject | LocalPath | WebAddress


async def resolve_by_system(host: str, port: int) -> list[str]:
    """The addresses that the system's resolver gives.

    Raises:
        OSError: When the name cannot be resolved.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class UriGuard:
    """Decides which URIs may be used.

    Args:
        settings: What callers may name.
        resolver: From host names to addresses.
    """

    def __init__(self, settings: UriSettings, *, resolver: Resolver = resolve_by_system) -> None:
        self._settings = settings
        self._resolver = resolver

    async def check(self, uri: str, use: UriUse) -> CheckedUri:
        """What a URI names, if callers may name it.

        Args:
            uri: What the caller wrote.
            use: What it is for.

        Raises:
            UriRefusedError: When they may not; the message never tells what lies behind it.
        """
        if (
            len(uri) > _MAX_URI
            or "\\" in uri
            or any(c.isspace() or not c.isprintable() for c in uri)
        ):
            raise _refused(
                "a URI is too long or holds blanks, backslashes or control characters",
                "percent-encode them, and keep it below 2048 characters",
            )
        scheme, colon, _ = uri.partition(":")
        if not colon:
            if use is UriUse.MODEL:
                return self._hub(uri, uri, "")
            raise _scheme_refused(use)
        scheme = scheme.lower()
        if scheme not in _SCHEMES[use]:
            raise _scheme_refused(use)
        match scheme:
            case "package":
                return _package(uri)
            case "hf":
                return self._dataset(uri)
            case "s3":
                return self._object(uri)
            case "file":
                # Links are followed on the disk, which may be a slow one.
                return await asyncio.to_thread(self._file, uri)
            case _:
                return await self.locate(uri, use)

    async def locate(self, address: str, use: UriUse) -> WebAddress:
        """Where a web address leads now, if callers may go there.

        Raises:
            UriRefusedError: When they may not.
        """
        try:
            url = httpx.URL(address)
        except httpx.InvalidURL:
            raise _refused("this is not a web address", "write https://host/path") from None
        scheme = url.scheme
        if scheme not in _SCHEMES[use]:
            raise _scheme_refused(use)
        if scheme == "http" and not self._settings.plain_http:
            raise _refused("http:// is not allowed here", "use https://")
        host = url.raw_host.decode("ascii")
        if url.userinfo:
            raise _refused("a web address holds a user or password", "leave them out")
        literal = _literal(host)
        if literal is None and not _is_host_name(host):
            raise _refused(
                "the host of a web address is neither a name nor a plain IP address",
                "write the host's name",
            )
        port = (443 if scheme == "https" else 80) if url.port is None else url.port
        if not 0 < port < 65536:
            raise _refused("a web address names a port that cannot be", "use 1 to 65535")
        if literal is not None:
            found: Sequence[str] = [host]
        else:
            try:
                found = await self._resolver(host, port)
            except (OSError, UnicodeError):
                found = []
        names = {host, f"{host}:{port}"}
        trusted = any(name.lower() in names for name in self._settings.trusted_hosts)
        # All of them: a name with one good and one bad address is a trap.
        if not found or not all(_is_permitted(text, trusted=trusted) for text in found):
            raise _refused(
                f"{host} is not a host on the public internet",
                "use one that is, or have it added to security.uris.trusted_hosts",
            )
        return WebAddress(uri=str(url), host=host, port=port, addresses=tuple(found))

    def _hub(self, uri: str, hub_id: str, file: str) -> HubEntry:
        if not _HUB_ID.fullmatch(hub_id) or ".." in hub_id or "--" in hub_id:
            raise _refused("this is not the id of a model or dataset", "write owner/name")
        patterns = self._settings.hub_ids
        if patterns is not None and not any(fnmatch.fnmatchcase(hub_id, p) for p in patterns):
            raise _refused(
                f"{hub_id} may not be used here", "have it added to security.uris.hub_ids"
            )
        return HubEntry(uri=uri, id=hub_id, file=file)

    def _dataset(self, uri: str) -> HubEntry:
        parts = uri[len("hf://") :].split("/") if uri.lower().startswith("hf://") else []
        file = parts[2:]
        if len(parts) < 2 or not _are_plain(file):
            raise _refused("this is not a dataset of the hub", "write hf://owner/name[/file]")
        return self._hub(f"hf://{'/'.join(parts)}", "/".join(parts[:2]), "/".join(file))

    def _object(self, uri: str) -> BucketObject:
        rest = uri[len("s3://") :] if uri.lower().startswith("s3://") else ""
        bucket, _, key = rest.partition("/")
        if not _BUCKET.fullmatch(bucket) or not key or not _are_plain(key.split("/")):
            raise _refused("this is not an object", "write s3://bucket/key")
        for allowed in self._settings.buckets:
            owner, _, prefix = allowed.strip("/").partition("/")
            if bucket == owner and (not prefix or key.startswith(f"{prefix}/")):
                return BucketObject(uri=f"s3://{bucket}/{key}", bucket=bucket, key=key)
        raise _refused(
            "this object may not be read here", "have its bucket added to security.uris.buckets"
        )

    def _file(self, uri: str) -> LocalPath:
        parts = urlsplit(uri)
        text = unquote(parts.path, errors="surrogateescape")  # as names of files are read
        if (
            not uri.lower().startswith("file://")
            or parts.netloc not in ("", "localhost")
            or parts.query
            or parts.fragment
            or not text.startswith("/")
            or "\0" in text
        ):
            raise _refused("this is not a file of this machine", "write file:///folder/file")
        folders = [folder.resolve() for folder in self._settings.folders]
        try:
            path = Path(text).resolve(strict=True)
        except (OSError, RuntimeError):
            path = None
        if path is None or not _is_below(path, folders) or not _is_closed(path, folders):
            # One answer for what is missing and what is closed, so that nobody can feel their way.
            raise _refused(
                "there is no such file, or it may not be read here",
                "name one below a folder of security.uris.folders",
            )
        return LocalPath(uri=f"file://{quote(os.fsencode(path))}", path=path)


class _PinnedTransport(httpx.AsyncBaseTransport):
    """Connects each request, redirects included, to an address that was checked for it just now."""

    def __init__(self, guard: UriGuard, use: UriUse, verify: ssl.SSLContext | bool) -> None:
        self._guard = guard
        self._use = use
        # Connections are not kept: one opened for a host must not serve another at the same address,
        # whose certificate nobody has looked at.
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=0)
        self._inner = httpx.AsyncHTTPTransport(verify=verify, trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        place = await self._guard.locate(str(request.url), self._use)
        *others, final = place.addresses
        for address in others:
            try:
                return await self._send(request, place.host, address)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # nothing was sent yet
        return await self._send(request, place.host, final)

    async def _send(self, request: httpx.Request, host: str, address: str) -> httpx.Response:
        pinned = httpx.Request(
            request.method,
            request.url.copy_with(host=address),
            headers=request.headers,  # `Host` is the name
            stream=request.stream,
            # The certificate must be the name's, not the address's.
            extensions={**request.extensions, "sni_hostname": host},
        )
        return await self._inner.handle_async_request(pinned)

    async def aclose(self) -> None:
        await self._inner.aclose()


def guarded_client(
    guard: UriGuard,
    use: UriUse,
    *,
    verify: ssl.SSLContext | bool = True,
    timeout_seconds: float = 10,
    follow_redirects: bool = False,
) -> httpx.AsyncClient:
    """A client for addresses that callers name.

    Args:
        guard: Decides about every address, and again about every redirect.
        use: What the addresses are for.
        verify: Certificates to believe.
        timeout_seconds: The longest each of connecting, sending and receiving may pause.
        follow_redirects: Whether redirects are followed.

    Returns:
        A client whose requests raise `UriRefusedError` for addresses that are refused. It ignores
        proxies of the environment, which would resolve names themselves.
    """
    return httpx.AsyncClient(
        transport=_PinnedTransport(guard, use, verify),
        timeout=timeout_seconds,
        follow_redirects=follow_redirects,
        max_redirects=5,
        trust_env=False,
    )


def is_public(address: str) -> bool:
    """Whether this IP address is one that anybody on the internet has."""
    parsed = _parse(address)
    if parsed is None or any(parsed in network for network in _NOT_PUBLIC):
        return False
    return isinstance(parsed, ipaddress.IPv4Address) or parsed in _GLOBAL_UNICAST


def _is_permitted(address: str, *, trusted: bool) -> bool:
    if not trusted:
        return is_public(address)
    parsed = _parse(address)
    return parsed is not None and not any(parsed in network for network in _NEVER)


def _parse(address: str) -> _IpAddress | None:
    """The address that packets really go to."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id is not None:
            return None
        if parsed.ipv4_mapped is not None:
            return parsed.ipv4_mapped
        if parsed in _NAT64:
            return ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
    return parsed


def _literal(host: str) -> _IpAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_host_name(host: str) -> bool:
    """A name, and not one of the many spellings of an IPv4 address that `inet_aton` understands."""
    last = host.rstrip(".").rpartition(".")[2]
    return _HOST.fullmatch(host) is not None and not _NUMERIC_LABEL.fullmatch(last)


def _package(uri: str) -> PackageData:
    name = uri.partition(":")[2]
    if not _PACKAGE.fullmatch(name):
        raise _refused("this is not the name of built-in data", "write package:NAME")
    return PackageData(uri=f"package:{name}", name=name)


def _are_plain(segments: Sequence[str]) -> bool:
    """Whether readers of this path cannot disagree about what it means."""
    return all(
        segment not in ("", ".", "..") and not any(character in "?#%" for character in segment)
        for segment in segments
    )


def _is_below(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _is_closed(path: Path, folders: Sequence[Path]) -> bool:
    """Whether this is a file, or a folder from which no link leads out and which holds only files."""
    if not path.is_dir():
        return path.is_file()
    for place, directories, files in os.walk(path):
        for name in (*directories, *files):
            inside = (Path(place) / name).resolve()
            if not _is_below(inside, folders) or not (inside.is_dir() or inside.is_file()):
                return False
    return True


def _scheme_refused(use: UriUse) -> UriRefusedError:
    kinds = [f"{scheme}:" for scheme in _SCHEMES[use]]
    if use is UriUse.MODEL:
        kinds.insert(0, "a hub id")
    return _refused(f"this cannot be the address of a {use}", f"use one of {', '.join(kinds)}")


def _refused(problem: str, fix: str) -> UriRefusedError:
    return UriRefusedError(problem, fix=fix)
