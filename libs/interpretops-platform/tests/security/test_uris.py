"""Callers cannot make a server read its own files or reach its own network."""

from __future__ import annotations

import asyncio
import datetime
import os
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from interpretops_platform.security.uris import (
    BucketObject,
    HubEntry,
    LocalPath,
    PackageData,
    UriGuard,
    UriRefusedError,
    UriSettings,
    UriUse,
    WebAddress,
    guarded_client,
    is_public,
    resolve_by_system,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PUBLIC = "93.184.215.14"


class Names:
    """A resolver with a script: the n-th question about a name gets the n-th answer."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise OSError("no such host")
        given = self.answers[host]
        return given.pop(0) if len(given) > 1 else given[0]


def guard(names: Names | None = None, **settings: Any) -> UriGuard:
    return UriGuard(UriSettings(**settings), resolver=names or Names(hook_test=[[PUBLIC]]))


async def refused(guard: UriGuard, uri: str, use: UriUse) -> str:
    with pytest.raises(UriRefusedError) as caught:
        await guard.check(uri, use)
    return str(caught.value)


# --- which kind for which use


@pytest.mark.parametrize(
    ("use", "uri"),
    [
        (UriUse.DATASET, "https://hook.test/x"),
        (UriUse.DATASET, "prompts.jsonl"),
        (UriUse.DATASET, "/etc/passwd"),
        (UriUse.MODEL, "hf://owner/name"),
        (UriUse.MODEL, "package:harmful"),
        (UriUse.MODEL, "https://hook.test/x"),
        (UriUse.WEBHOOK, "file:///etc/passwd"),
        (UriUse.WEBHOOK, "s3://bucket/key"),
        (UriUse.WEBHOOK, "gopher://hook.test/"),
        (UriUse.WEBHOOK, "hook.test"),
        (UriUse.TELEMETRY, "unix:///run/docker.sock"),
        (UriUse.DATASET, ""),
    ],
)
async def test_each_use_has_its_schemes(use: UriUse, uri: str) -> None:
    assert "cannot be the address of" in await refused(guard(), uri, use)


@pytest.mark.parametrize(
    "uri", ["https://hook.test/a b", "https://hook.test\\@evil", "s3://b/\x00", "x" * 3000, "a\tb"]
)
async def test_texts_that_readers_take_apart_differently_are_refused(uri: str) -> None:
    for use in UriUse:
        assert "percent-encode" in await refused(guard(), uri, use)


async def test_built_in_data_is_named_plainly() -> None:
    found = await guard().check("package:harm-bench.v1", UriUse.DATASET)
    assert found == PackageData("package:harm-bench.v1", "harm-bench.v1")
    for uri in ("package:../x", "package:", "package://x", "package:a/b", "package:a..b"):
        await refused(guard(), uri, UriUse.DATASET)


# --- the hub


async def test_hub_ids_without_a_list_are_all_allowed() -> None:
    assert await guard().check("gpt2", UriUse.MODEL) == HubEntry("gpt2", "gpt2", "")
    found = await guard().check("hf://lab/set/data/a.jsonl", UriUse.DATASET)
    assert found == HubEntry("hf://lab/set/data/a.jsonl", "lab/set", "data/a.jsonl")


async def test_hub_ids_follow_the_list() -> None:
    only = guard(hub_ids=("HuggingFaceTB/*", "gpt2"))
    for name in ("HuggingFaceTB/SmolLM2-135M", "gpt2"):
        await only.check(name, UriUse.MODEL)
    for name in ("huggingfacetb/x", "evil/HuggingFaceTB", "gpt2-large", "HuggingFaceTB"):
        assert "hub_ids" in await refused(only, name, UriUse.MODEL)
    await refused(only, "hf://evil/data", UriUse.DATASET)
    await refused(guard(hub_ids=()), "gpt2", UriUse.MODEL)


@pytest.mark.parametrize(
    "name",
    [
        "/etc",
        "../x",
        "a/../b",
        "a/b/c",
        ".hidden",
        "~/x",
        "a//b",
        "a/",
        "owner/..",
        "a--b/c",
        "a..b/c",
        "a\n",
    ],
)
async def test_paths_do_not_pass_as_hub_ids(name: str) -> None:
    await refused(guard(), name, UriUse.MODEL)


@pytest.mark.parametrize(
    "uri", ["hf:lab/set", "hf://lab", "hf://lab/set/../x", "hf://lab/set/%2e%2e/x", "hf://a/b?x=1"]
)
async def test_malformed_hub_addresses_are_refused(uri: str) -> None:
    await refused(guard(), uri, UriUse.DATASET)


# --- buckets


async def test_only_named_buckets_and_prefixes_are_read() -> None:
    rules = guard(buckets=("datasets", "shared/public"))
    found = await rules.check("s3://datasets/a/b.jsonl", UriUse.DATASET)
    assert found == BucketObject("s3://datasets/a/b.jsonl", "datasets", "a/b.jsonl")
    await rules.check("S3://shared/public/x", UriUse.MODEL)
    for uri in (
        "s3://objects/tenant/secret",
        "s3://shared/private/x",
        "s3://shared/publicity/x",
        "s3://shared/public/../private/x",
        "s3://shared/public/%2e%2e/private/x",
        "s3://datasets/a//b",
        "s3://datasets/",
        "s3://datasets",
        "s3:datasets/a",
        "s3://key:secret@datasets/a",
        "s3://datasets/a?versionId=1",
        "s3://datasets/a#b",
        "s3://DATASETS/a",
    ):
        await refused(rules, uri, UriUse.DATASET)
    await refused(guard(), "s3://datasets/a", UriUse.DATASET)


# --- files


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    inside, outside = tmp_path / "data", tmp_path / "data-private"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.jsonl").write_text("{}")
    return inside, outside


async def test_files_below_a_named_folder_are_read(folders: tuple[Path, Path]) -> None:
    inside, _ = folders
    (inside / "mit Ümlaut.jsonl").write_text("{}")
    rules = guard(folders=(inside,))
    for uri in (f"file://{inside}/a.jsonl", f"FILE://localhost{inside}/./a.jsonl"):
        found = await rules.check(uri, UriUse.DATASET)
        assert found == LocalPath(f"file://{inside}/a.jsonl", inside / "a.jsonl")
    odd = await rules.check(f"file://{inside}/mit%20%C3%9Cmlaut.jsonl", UriUse.DATASET)
    assert isinstance(odd, LocalPath)
    assert odd.path.read_text() == "{}"
    assert await rules.check(odd.uri, UriUse.DATASET) == odd
    assert isinstance(await rules.check(f"file://{inside}", UriUse.MODEL), LocalPath)


async def test_nothing_else_is_read_and_the_answer_does_not_tell_what_exists(
    folders: tuple[Path, Path],
) -> None:
    inside, outside = folders
    (inside / "link.jsonl").symlink_to(outside / "a.jsonl")
    (inside / "way-out").symlink_to(outside)
    (inside / "loop").symlink_to(inside / "loop")
    os.mkfifo(inside / "pipe")
    rules = guard(folders=(inside,))
    answers = {
        await refused(rules, f"file://{path}", UriUse.DATASET)
        for path in (
            outside / "a.jsonl",
            outside / "absent.jsonl",
            inside / "absent.jsonl",
            f"{inside}/../data-private/a.jsonl",
            f"{inside}/%2e%2e/data-private/a.jsonl",
            f"{inside}/%FF",
            inside / "link.jsonl",
            inside / "way-out" / "a.jsonl",
            inside / "loop",
            inside / "pipe",
            "/etc/passwd",
            "/proc/self/environ",
            "/dev/zero",
        )
    }
    assert len(answers) == 1
    for uri in (
        f"file://evil.test{inside}/a.jsonl",
        f"file:{inside}/a.jsonl",
        f"file://{inside}/a.jsonl?x",
        f"file://{inside}/a.jsonl#x",
        f"file://{inside}/a.jsonl%00.png",
    ):
        assert "not a file of this machine" in await refused(rules, uri, UriUse.DATASET)
    await refused(guard(), f"file://{inside}/a.jsonl", UriUse.DATASET)


async def test_a_folder_with_a_link_that_leads_out_is_refused(folders: tuple[Path, Path]) -> None:
    inside, outside = folders
    model = inside / "model"
    (model / "deep").mkdir(parents=True)
    (model / "deep" / "weights").symlink_to(inside / "a.jsonl")
    rules = guard(folders=(inside,))
    await rules.check(f"file://{model}", UriUse.MODEL)
    for target in (outside / "a.jsonl", outside):
        (model / "deep" / "out").symlink_to(target)
        await refused(rules, f"file://{model}", UriUse.MODEL)
        (model / "deep" / "out").unlink()


# --- addresses


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2606:2800:21f:cb07:6820:80da:af6b:8b2c%eth0",
        "fec0::1",
        "ff02::1",
        "not an address",
        "",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        PUBLIC,
        "1.1.1.1",
        "172.32.0.1",
        "100.128.0.1",
        "::ffff:1.1.1.1",
        "64:ff9b::101:101",
        "2606:4700:4700::1111",
    ],
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0X7F.1",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "1.1",
        "0",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "127.0.0.1%2f.hook.test",
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "169.254.169.254",
        "user@hook.test",
        "user:pw@hook.test",
        "hook.test:80@127.0.0.1",
        "hook..test",
        "-hook.test",
        ".",
        "",
        "hook.test:99999",
        "hook.test:0",
        "a" * 300,
    ],
)
async def test_other_spellings_of_hosts_are_refused_without_asking_the_resolver(host: str) -> None:
    names = Names()
    await refused(guard(names, plain_http=True), f"http://{host}/", UriUse.WEBHOOK)
    assert names.asked == []


@pytest.mark.parametrize(
    "answers",
    [["127.0.0.1"], ["::1"], [PUBLIC, "10.0.0.1"], ["10.0.0.1", PUBLIC], ["fe80::1%eth0"], []],
)
async def test_every_address_of_a_name_must_be_public(answers: list[str]) -> None:
    rules = guard(Names(hook_test=[answers]))
    assert "not a host on the public internet" in await refused(
        rules, "https://hook.test/", UriUse.WEBHOOK
    )


async def test_a_missing_name_and_a_private_one_look_the_same() -> None:
    rules = guard(Names(hook_test=[["10.0.0.1"]]))
    private = await refused(rules, "https://hook.test/", UriUse.WEBHOOK)
    missing = await refused(rules, "https://gone.test/", UriUse.WEBHOOK)
    assert private.replace("hook", "gone") == missing


async def test_a_public_name_is_resolved_to_what_was_checked() -> None:
    found = await guard().check("https://HOOK.test/in?x=1", UriUse.WEBHOOK)
    assert found == WebAddress("https://hook.test/in?x=1", "hook.test", 443, (PUBLIC,))
    literal = await guard().check(f"https://{PUBLIC}:8443/", UriUse.TELEMETRY)
    assert isinstance(literal, WebAddress)
    assert (literal.port, literal.addresses) == (8443, (PUBLIC,))


async def test_plain_http_is_asked_for() -> None:
    assert "use https" in await refused(guard(), "http://hook.test/", UriUse.WEBHOOK)
    await guard(plain_http=True).check("http://hook.test/", UriUse.WEBHOOK)


async def test_a_trusted_host_may_be_private_but_never_give_the_machines_credentials() -> None:
    names = Names(
        hook_test=[["10.0.0.5"]], metadata_test=[["169.254.169.254"]], six_test=[["fd00:ec2::254"]]
    )
    trusted = ("Hook.test:4318", "metadata.test", "six.test")
    rules = guard(names, trusted_hosts=trusted)
    await rules.check("https://hook.test:4318/v1/traces", UriUse.TELEMETRY)
    for uri in ("https://hook.test/", "https://metadata.test/", "https://six.test/"):
        await refused(rules, uri, UriUse.TELEMETRY)


async def test_the_systems_resolver_knows_this_machine() -> None:
    found = await resolve_by_system("localhost", 443)
    assert found
    assert not any(is_public(address) for address in found)


# --- connections


class Server:
    """A server on this machine that remembers what it was asked."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.requests: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(self.answer.format(port=self.port).encode())
        await writer.drain()
        writer.close()


OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def serving(answer: str = OK, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(answer)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls) as listener:
        server.port = listener.sockets[0].getsockname()[1]
        yield server


def local(names: Names, *hosts: str) -> UriGuard:
    """A guard under which these hosts may be on this machine, where the test's server is."""
    return guard(names, trusted_hosts=hosts, plain_http=True)


async def test_the_connection_goes_to_the_checked_address_under_the_hosts_name() -> None:
    names = Names(hook_test=[["127.0.0.1"]])
    async with (
        serving() as server,
        guarded_client(local(names, "hook.test"), UriUse.WEBHOOK) as web,
    ):
        response = await web.post(f"http://hook.test:{server.port}/in", content=b"hello")
    assert response.text == "ok"
    assert str(response.request.url) == f"http://hook.test:{server.port}/in"
    assert f"host: hook.test:{server.port}\r\n" in server.requests[0].lower()
    assert names.asked == ["hook.test"]  # once: what was checked is what was used


async def test_a_name_that_moves_home_after_the_check_is_refused() -> None:
    names = Names(evil_test=[[PUBLIC], ["127.0.0.1"]])
    rules = guard(names, plain_http=True)
    async with serving() as server, guarded_client(rules, UriUse.WEBHOOK) as web:
        uri = f"http://evil.test:{server.port}/"
        await rules.check(uri, UriUse.WEBHOOK)
        with pytest.raises(UriRefusedError):
            await web.get(uri)
    assert server.requests == []


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:{port}/admin",
        "http://inner.test:{port}/admin",
        "http://169.254.169.254/latest",
        "http://2130706433:{port}/",
    ],
)
async def test_a_redirect_is_checked_like_the_first_address(target: str) -> None:
    names = Names(hook_test=[["127.0.0.1"]], inner_test=[["127.0.0.1"]])
    answer = f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"
    client = guarded_client(local(names, "hook.test"), UriUse.WEBHOOK, follow_redirects=True)
    async with serving(answer) as server, client as web:
        with pytest.raises(UriRefusedError):
            await web.get(f"http://hook.test:{server.port}/")
    assert len(server.requests) == 1


async def test_redirects_to_what_is_allowed_are_followed_and_not_by_default() -> None:
    names = Names(hook_test=[["127.0.0.1"]], next_test=[["127.0.0.1"]])
    rules = local(names, "hook.test", "next.test")
    async with serving() as last:
        answer = f"HTTP/1.1 307 Go\r\nLocation: http://next.test:{last.port}/\r\nContent-Length: 0"
        async with serving(answer + "\r\n\r\n") as first:
            uri = f"http://hook.test:{first.port}/"
            async with guarded_client(rules, UriUse.WEBHOOK) as web:
                assert (await web.get(uri)).status_code == 307
            async with guarded_client(rules, UriUse.WEBHOOK, follow_redirects=True) as web:
                assert (await web.get(uri)).text == "ok"


async def test_a_dead_address_is_followed_by_the_next_one() -> None:
    names = Names(hook_test=[["127.0.0.2", "127.0.0.1"]])
    async with (
        serving() as server,
        guarded_client(local(names, "hook.test"), UriUse.WEBHOOK) as web,
    ):
        assert (await web.get(f"http://hook.test:{server.port}/")).text == "ok"


async def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(hook_test=[["127.0.0.1"]])
    async with serving() as proxy, serving() as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with guarded_client(local(names, "hook.test"), UriUse.WEBHOOK) as web:
            await web.get(f"http://hook.test:{server.port}/")
    assert (len(server.requests), proxy.requests) == (1, [])


def certificate(host: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for this host, and a client's that believes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=pem)


async def test_the_certificate_must_be_the_names_although_an_address_is_dialled(
    tmp_path: Path,
) -> None:
    tls, believes = certificate("hook.test", tmp_path)
    names = Names(hook_test=[["127.0.0.1"]], other_test=[["127.0.0.1"]])
    rules = local(names, "hook.test", "other.test")
    client = guarded_client(rules, UriUse.WEBHOOK, verify=believes)
    async with serving(tls=tls) as server, client as web:
        assert (await web.get(f"https://hook.test:{server.port}/")).text == "ok"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await web.get(f"https://other.test:{server.port}/")
