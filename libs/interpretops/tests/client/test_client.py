"""The client against a server that fails on purpose: what is repeated, what is not, and what is said."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from interpretops import Client
from interpretops.client import ApiError, JobState
from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JOB = {
    "id": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "kind": "trace",
    "state": "QUEUED",
    "created_at": "2026-01-01T12:00:00Z",
    "invented_by_a_newer_platform": True,
}
PROBLEM = {
    "type": "urn:interpretops:problem:unprocessable-entity",
    "status": 422,
    "detail": "spec.sites: is empty",
    "fix": "name a site",
    "field": "spec.sites",
    "request_id": "abc",
}


class Seen:
    """One request as it arrived."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self.method, self.path = handler.command, handler.path
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        length = int(self.headers.get("content-length", 0))
        self.body: Any = json.loads(handler.rfile.read(length)) if length else None


class Server:
    """Answers requests, one by one, with what a test prepared."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.answers: list[Callable[[BaseHTTPRequestHandler], None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                outer.seen.append(Seen(self))
                outer.answers.pop(0)(self)

            do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def will(self, status: int, body: Any, **headers: str) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            handler.send_response(status)
            handler.send_header("content-length", str(len(content)))
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            handler.wfile.write(content)

        self.answers.append(answer)

    def will_hang_up(self) -> None:
        self.answers.append(lambda handler: handler.connection.close())

    def will_stream(self, text: str) -> None:
        """Events, and then the connection ends."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("content-type", "text/event-stream")
            handler.end_headers()
            handler.wfile.write(text.encode())

        self.answers.append(answer)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, "iop_key") as client:
        yield client


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interpretops.client.transport._FIRST_PAUSE", 0.01)


def test_a_submission_is_repeated_under_the_key_it_was_first_sent_with(server, client):
    server.will_hang_up()
    server.will(503, PROBLEM | {"status": 503}, retry_after="0")
    server.will(429, PROBLEM | {"status": 429}, retry_after="0")
    server.will(202, JOB)
    job = client.traces.create(["a", "b"], {"sites": ["resid_post.1"]})
    assert job.state is JobState.QUEUED
    keys = {request.headers["idempotency-key"] for request in server.seen}
    assert len(server.seen) == 4
    assert len(keys) == 1
    assert server.seen[-1].body == {"prompts": ["a", "b"], "spec": {"sites": ["resid_post.1"]}}
    assert server.seen[-1].headers["authorization"] == "Bearer iop_key"


def test_what_may_not_be_sent_twice_is_sent_once(server, client):
    server.will(503, PROBLEM | {"status": 503, "detail": "the service is away", "fix": "try again"})
    with pytest.raises(ApiError, match="the service is away") as caught:
        client.policies.create(yaml="meta: {}")
    assert caught.value.status == 503
    assert len(server.seen) == 1


def test_a_refusal_is_not_repeated_and_says_field_and_fix(server, client):
    server.will(422, PROBLEM)
    with pytest.raises(InterpretOpsError) as caught:
        client.traces.create(["a"], {"sites": []})
    assert str(caught.value) == "spec.sites: is empty. Fix: name a site."
    assert caught.value.field == "spec.sites"
    assert caught.value.request_id == "abc"
    assert len(server.seen) == 1


def test_patience_ends(server, client):
    for _ in range(5):
        server.will(503, PROBLEM | {"status": 503})
    with pytest.raises(ApiError):
        client.jobs.get(JOB["id"])
    assert not server.answers


def test_nobody_there_is_one_line_with_the_fix(server):
    server.http.server_close()
    with pytest.raises(InterpretOpsError, match=r"there is no connection to .*Fix: check the"):
        Client(server.url).whoami()


def test_an_address_that_is_none_is_said_at_once():
    with pytest.raises(InterpretOpsError, match="no address of a platform"):
        Client("localhost:8080")


def test_another_server_is_not_taken_for_a_platform(server, client):
    server.will(200, b"<html>welcome</html>")
    with pytest.raises(InterpretOpsError, match="did not answer as this platform does"):
        client.jobs.get(JOB["id"])


def event(cursor: int, kind: str, **body: Any) -> str:
    data = json.dumps({"at": "2026-01-01T12:00:00Z", "body": body})
    return f"id: {cursor}\nevent: {kind}\ndata: {data}\n\n"


def test_a_broken_stream_of_events_goes_on_behind_the_last_one(server, client):
    server.will_stream("retry: 1000\n\n: alive\n\n" + event(1, "queued") + event(2, "started"))
    server.will_hang_up()
    server.will_stream(
        event(3, "progress", stage="tracing", done=1, total=2) + event(4, "succeeded")
    )
    events = list(client.jobs.watch(JOB["id"]))
    assert [each.type for each in events] == ["queued", "started", "progress", "succeeded"]
    assert [request.headers.get("last-event-id") for request in server.seen] == [None, "2", "2"]


def test_waiting_reports_progress_and_gives_the_job(server, client):
    told: list[tuple[str, int, int, dict[str, float]]] = []

    class Monitor:
        def update(self, stage: str, done: int, total: int, **figures: float) -> None:
            told.append((stage, done, total, figures))

    server.will(200, JOB)
    server.will_stream(
        event(1, "progress", stage="training", done=3, total=9, figures={"loss": 0.5})
        + event(2, "succeeded")
    )
    server.will(200, JOB | {"state": "SUCCEEDED", "result": "tr_1"})
    assert client.jobs.wait(JOB["id"], progress=Monitor()).result == "tr_1"
    assert told == [("training", 3, 9, {"loss": 0.5})]


def test_a_job_that_failed_says_why(server, client):
    error = {"problem": "the model does not fit", "fix": "use a smaller one", "field": "model"}
    server.will(200, JOB | {"state": "FAILED", "error": error})
    with pytest.raises(InterpretOpsError) as caught:
        client.jobs.wait(JOB["id"])
    assert str(caught.value) == "the model does not fit. Fix: use a smaller one."
    assert caught.value.field == "model"


def test_lists_are_walked_to_their_end(server, client):
    server.will(200, {"items": [JOB], "next_cursor": "c/1"})
    server.will(200, {"items": [JOB | {"id": "job_2"}]})
    assert [job.id for job in client.jobs.list(kind="trace")] == [JOB["id"], "job_2"]
    assert [request.path for request in server.seen] == [
        "/jobs?kind=trace",
        "/jobs?cursor=c%2F1&kind=trace",
    ]


def test_artifacts_are_named_and_unnamed(server, client):
    named = {"name": "sae_v1", "artifact": "sae_1", "kind": "dictionary", "author": "key:ci"}
    named |= {"updated_at": "2026-01-01T12:00:00Z"}
    server.will(503, PROBLEM | {"status": 503}, retry_after="0")
    for body in (named, {"items": [named]}, named):
        server.will(200, body)
    assert client.artifacts.name("sae_1", "sae_v1").artifact == "sae_1"
    assert [each.name for each in client.artifacts.names()] == ["sae_v1"]
    assert client.artifacts.unname("sae_v1").kind == "dictionary"
    assert [(request.method, request.path, request.body) for request in server.seen] == [
        ("PUT", "/names/sae_v1", {"artifact": "sae_1"}),
        ("PUT", "/names/sae_v1", {"artifact": "sae_1"}),
        ("GET", "/names", None),
        ("DELETE", "/names/sae_v1", None),
    ]


def test_an_answer_comes_piece_by_piece(server, client):
    pieces = [{"choices": [{"delta": {"content": text}}]} for text in ("Hel", "lo")]
    server.will_stream("".join(f"data: {json.dumps(p)}\n\n" for p in pieces) + "data: [DONE]\n\n")
    assert list(client.chat_stream("hi", model="m", policy="p")) == ["Hel", "lo"]
    assert server.seen[0].body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "policy": "p",
        "max_tokens": 256,
        "stream": True,
    }


def test_a_download_that_breaks_leaves_nothing(server, client, tmp_path):
    def cut_short(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        handler.wfile.write(b"half")
        handler.connection.close()

    server.answers.append(cut_short)
    with pytest.raises(ApiError):
        client.artifacts.download("tr_1", "a.bin", tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []
