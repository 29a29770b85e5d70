"""A worker's pod says that it is busy while a job runs, and no longer."""

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from interpretops_platform.errors import SettingsError
from interpretops_platform.jobs.pod import PodMarks

from .rpc.conftest import Authority


class KubernetesApi(BaseHTTPRequestHandler):
    """Applies merge patches to the annotations of one pod."""

    def do_PATCH(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        allowed = self.headers["authorization"] == "Bearer let-me-in"
        if allowed and self.path == "/api/v1/namespaces/ops/pods/worker-0":
            assert self.headers["content-type"] == "application/merge-patch+json"
            for name, value in body["metadata"]["annotations"].items():
                server.annotations.pop(name, None)
                if value is not None:
                    server.annotations[name] = value
        self.send_response(200 if allowed else 403)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def account(tmp_path):
    (tmp_path / "namespace").write_text("ops")
    (tmp_path / "token").write_text("let-me-in\n")
    return tmp_path


@pytest.fixture
def api(account):
    authority = Authority(account)
    (account / "authority.pem").rename(account / "ca.crt")
    files = authority.issue("api", days=1)
    server = HTTPServer(("127.0.0.1", 0), KubernetesApi)
    server.annotations = {"mine": "stays"}
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_busy_pod_asks_to_be_spared(api, account):
    marks = PodMarks(api.server_address, account, "worker-0")
    marks.busy()
    assert api.annotations == {
        "mine": "stays",
        "karpenter.sh/do-not-disrupt": "true",
        "controller.kubernetes.io/pod-deletion-cost": "1000",
    }
    marks.idle()
    assert api.annotations == {"mine": "stays"}


def test_a_mark_that_is_refused_stops_no_job(api, account, caplog):
    (account / "token").write_text("wrong")
    PodMarks(api.server_address, account, "worker-0").busy()
    assert "the API answers 403" in caplog.text


def test_without_a_service_account_the_fix_is_named(tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match="mount its token"):
        PodMarks(("127.0.0.1", 1), tmp_path, "worker-0")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SettingsError, match="set jobs"):
        PodMarks.of_this_pod()
