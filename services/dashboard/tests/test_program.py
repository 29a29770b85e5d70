"""The programs: `python -m interpretops_dashboard`, and `mechctl serve-ui`."""

import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest


@pytest.fixture
def taken_port():
    """A port that another program has."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_serve_ui_serves_what_is_checked_in_until_it_is_told_to_stop(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "config.yaml").write_text(f"dashboard: {{port: {port}}}\n")
    program = [sys.executable, "-m", "interpretops", "serve-ui", "--config", "config.yaml"]
    process = subprocess.Popen(program, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        deadline = time.monotonic() + 30
        while True:
            try:
                page = httpx.get(f"http://127.0.0.1:{port}/", timeout=5)
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert "InterpretOps" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()


@pytest.mark.parametrize(
    "program", [["-m", "interpretops_dashboard"], ["-m", "interpretops", "serve-ui"]]
)
def test_a_taken_port_is_one_line_with_its_cure(tmp_path, taken_port, program):
    (tmp_path / "config.yaml").write_text(f"dashboard: {{port: {taken_port}}}\n")
    command = [sys.executable, *program, "--config", "config.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{taken_port}" in done.stderr
    assert "dashboard.port" in done.stderr
