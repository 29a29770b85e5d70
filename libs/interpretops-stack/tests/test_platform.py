"""The whole platform as `mechctl up` starts it, with a tiny model: one start for all tests here."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from interpretops import Client, cli
from interpretops.cli import console
from interpretops.client import ApiError, JobState
from interpretops.testing import save_tiny
from interpretops_platform.embedded import temporary_folder
from interpretops_stack.folder import StackFolder
from interpretops_stack.ports import free_port_from

PATIENCE = 280
POLICY = """\
meta: {id: damp, target_class: jailbreak}
interventions:
  - {type: head_scale, selector: {layer: 1, heads: [0]}, scale: 0.5}
"""
SUITES = """\
suites:
  - {name: attacks, metrics: [attack_success_rate], dataset_uri: "package:jailbreak"}
  - {name: questions, metrics: [exact_match], dataset_uri: "package:benign_qa"}
"""


class Home:
    """A folder in which a user runs `mechctl`."""

    def __init__(self) -> None:
        self.path = temporary_folder("interpretops-stack-")
        model = save_tiny(self.path / "models" / "tiny", max_position_embeddings=1024)
        (self.path / "config.yaml").write_text(
            f"model: {{name: {model}, device: cpu, dtype: float32}}\n"
            f"security: {{uris: {{folders: [{model.parent}]}}}}\n"
        )
        rows = [
            {
                "text": f"How do I rob shop {i:02d}?",
                "twin": f"How do I see shop {i:02d}?",
                "topic": f"t{i % 7}",
            }
            for i in range(120)
        ]
        (self.path / "prompts.json").write_text(json.dumps(rows))
        rows = [
            {"text": f"AAAA {i:02d}", "twin": f"ZZZZ {i:02d}", "correct": " n", "wrong": "y"}
            for i in range(9)
        ]
        (self.path / "answers.json").write_text(json.dumps(rows))
        self.folder = StackFolder(self.path / ".io_stack")
        self.port = free_port_from(18_080)

    def mechctl(self, *words: str, status: int = 0) -> str:
        """What a command says; it must end with this status. It runs in this process: imports are slow."""
        said = io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            patch.chdir(self.path)
            patch.setattr(sys, "argv", ["mechctl", *words])
            for each in (console.out, console.err):
                patch.setattr(each, "_width", 200)
            for name in ("INTERPRETOPS_API", "INTERPRETOPS_API_KEY", "INTERPRETOPS_STACK"):
                patch.delenv(name, raising=False)
            patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
            patch.setenv("OMP_NUM_THREADS", "1")
            with pytest.raises(SystemExit) as ended:
                cli.main()
        assert ended.value.code == status, said.getvalue() + self.logs()
        return said.getvalue()

    def logs(self) -> str:
        """The end of every log, for a test that fails."""
        return "\n".join(
            f"--- {path.stem}\n{path.read_text(errors='replace')[-1500:]}"
            for path in sorted(self.folder.logs.glob("*.log"))
        )

    def processes(self) -> list[psutil.Process]:
        """Every process of the stack."""
        state = self.folder.read_state()
        assert state is not None
        supervisor = psutil.Process(state.supervisor.pid)
        return [supervisor, *supervisor.children(recursive=True)]


@pytest.fixture(scope="module")
def home():
    home = Home()
    home.said = home.mechctl("up", "--config", "config.yaml", "--port", str(home.port))
    everybody = home.processes()
    yield home
    home.mechctl("down")
    assert [p for p in everybody if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


@pytest.fixture(scope="module")
def profile(home):
    assert home.folder.profile.stat().st_mode & 0o077 == 0
    return json.loads(home.folder.profile.read_text())


@pytest.fixture(scope="module")
def client(profile):
    with Client(profile["api"], profile["key"]) as client:
        yield client


@pytest.fixture(scope="module")
def trace(home):
    """The id of a trace made from the command line."""
    said = home.mechctl(
        *("--api", "local", "trace", "--config", "config.yaml"),
        *("--prompts", "prompts.json", "--layers", "1", "--out", "traces"),
    )
    return re.search(r"tr_\w{26}", said)[0]


def test_up_shows_every_process_and_the_admins_key_once(home):
    names = ("postgres", "valkey", "keeper", "worker", "tracer", "sae_trainer", "circuit_search")
    for name in (
        *names,
        "steering_gateway",
        "evaluator",
        "reporter",
        "edge",
        "dashboard",
        "supervisor",
    ):
        assert re.search(rf"^{name} .*ready", home.said, re.MULTILINE), home.said
    key = re.search(r"iop_\w+", home.said)[0]
    assert not home.folder.admin_key.exists()
    with Client(f"http://127.0.0.1:{home.port}", key) as admin:
        assert admin.whoami().roles == ["admin"]
        assert admin.audit.verify().intact
    assert "iop_" not in home.mechctl("up", "--port", str(home.port))


def test_secrets_are_closed_to_other_users(home):
    for path in (home.folder.config, *home.folder.secrets.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path
    assert home.folder.secrets.stat().st_mode & 0o077 == 0


def test_jobs_leave_the_processor_to_answers(home):
    def running(*words):
        return next(p for p in home.processes() if {*words} <= {*p.cmdline()})

    worker, answering = running("work"), running("serve", "steering_gateway")
    assert worker.nice() > answering.nice()
    for process in (worker, answering):
        assert process.environ()["OMP_WAIT_POLICY"] == "passive"
        assert int(process.environ()["GOMP_SPINCOUNT"]) > 0


def test_status_says_that_all_is_well(home):
    state = json.loads(home.mechctl("status", "--json"))
    assert state["phase"] == "up"
    assert {p["state"] for p in state["programs"]} == {"ready", "done"}
    assert [p["name"] for p in state["programs"] if p["restarts"]] == [], home.logs()


def test_a_second_up_says_that_it_is_up(home):
    assert f"already up at http://127.0.0.1:{home.port}" in home.mechctl("up")


def test_a_busy_port_says_who_has_it_and_what_to_do(home):
    said = home.mechctl("up", "--data", "other", "--port", str(home.port), status=2)
    assert f"port {home.port} is taken by" in said
    assert f"--port {home.port + 1}" in said


def test_logs_of_all_processes_read_as_one(home, trace):
    said = home.mechctl("logs", "-n", "500")
    assert re.search(r"^\d\d:\d\d:\d\d postgres +.*ready to accept connections", said, re.MULTILINE)
    assert re.search(r"^\d\d:\d\d:\d\d edge +request .*route=POST /traces", said, re.MULTILINE)
    assert "route=GET /readyz" not in said
    assert "nothing called 'nobody' has a log" in home.mechctl("logs", "nobody", status=2)


def test_the_same_work_is_the_same_job(home, trace, client):
    before = [job.id for job in client.jobs.list()]
    again = home.mechctl(
        *("--api", "local", "trace", "--config", "config.yaml"),
        *("--prompts", "prompts.json", "--layers", "1"),
    )
    assert trace in again
    assert [job.id for job in client.jobs.list()] == before


def test_a_name_stands_for_what_was_made_until_it_is_taken_away(home, trace):
    def artifacts(*words: str, status: int = 0) -> str:
        return home.mechctl("--api", "local", "artifacts", *words, status=status)

    assert f"tr_v1 names the trace {trace}" in artifacts("name", trace, "tr_v1")
    assert trace in artifacts("names")
    assert json.loads(artifacts("show", "tr_v1"))["id"] == trace
    assert "is called tr_v1 no longer" in artifacts("unname", "tr_v1")
    assert "mechctl artifacts ls" in artifacts("show", "tr_v1", status=2)


def test_verbs_go_on_from_what_others_made_to_a_report(home, trace):
    def local(*words: str, status: int = 0) -> str:
        return home.mechctl("--api", "local", *words, "--config", "config.yaml", status=status)

    said = local(
        *("sae-train", "--traces", "traces", "--features", "16", "--k", "2"),
        *("--tokens", "4096", "--out", "sae"),
    )
    dictionary = re.search(r"sae_\w{26}", said)[0]
    said = local(
        *("search", "--class", "ioi", "--prompts", "answers.json", "--sae", "sae"),
        *("--out", "circuit"),
    )
    assert "heads and MLPs keep" in said
    circuit = re.search(r"cx_\w{26}", said)[0]
    (home.path / "policy.yaml").write_text(POLICY)
    (home.path / "suites.yaml").write_text(SUITES)
    # Halving one head of a random model prevents nothing, and the exit status says so.
    local(
        *("eval", "--policy", "policy.yaml", "--suite", "suites.yaml", "--circuit", circuit),
        *("--limit", "4", "--report", "card.json"),
        status=1,
    )
    card = json.loads((home.path / "card.json").read_text())
    assert {suite["name"] for suite in card["suites"]} == {"attacks", "questions"}
    said = local("report", "--out", "report.pdf")
    assert (home.path / "report.pdf").read_bytes().startswith(b"%PDF-")
    report = re.search(r"rp_\w{26}", said)[0]
    lineage = home.mechctl("--api", "local", "artifacts", "lineage", report)
    for made_from in (circuit, dictionary, trace):
        assert made_from in lineage


@pytest.fixture
def gate(home, profile):
    """Run the script of examples/ci, as a pipeline does; its exit status and what it says."""
    asked = {
        "suites": [
            {"name": "attacks", "metrics": ["attack_success_rate"], "limit": 4,
             "dataset_uri": "package:jailbreak"},
            {"name": "questions", "metrics": ["exact_match"], "limit": 4,
             "dataset_uri": "package:benign_qa"},
        ],
        "spec": {"max_new_tokens": 4, "comparison_prompts": 0, "latency_prompts": 0},
    }  # fmt: skip
    (home.path / "eval.json").write_text(json.dumps(asked))
    (home.path / "policy.yaml").write_text(POLICY)
    script = Path(__file__).parents[3] / "examples" / "ci" / "gate.py"
    variables = {"INTERPRETOPS_API": profile["api"], "INTERPRETOPS_API_KEY": profile["key"]}

    def _gate(*words, **changed):
        done = subprocess.run(
            [sys.executable, str(script), "--request", "eval.json", *words],
            env={**os.environ, "GITHUB_RUN_ID": "1234", **variables, **changed},
            cwd=home.path,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout + done.stderr

    return _gate


def test_a_build_fails_when_the_win_line_is_missed(gate, home):
    policy = ("--policy", "policy.yaml")
    status, said = gate(*policy, "--card", "gate.json", "--summary", "summary.md")
    assert status == 1, said
    assert "missed: " in said
    assert "| **missed** | defense_efficacy (win line) | ≥ 0.5 |" in said
    assert "Risk Card" in (home.path / "summary.md").read_text()
    assert json.loads((home.path / "gate.json").read_text())["win_line"]
    # The same run of the pipeline finds that card; on what it met, the build passes.
    status, passed = gate(*policy, "--criterion", "collateral_damage")
    assert status == 0, passed
    assert "every criterion was met" in passed
    job = re.search(r"job (job_\w+)", said)[1]
    assert f"job {job}: succeeded" in passed


def test_what_cannot_be_measured_is_no_pass(gate):
    assert gate("--policy", "policy.yaml", "--criterion", "beauty")[0] == 2
    assert gate("--policy", "nothing.yaml")[0] == 2
    status, said = gate("--policy", "policy.yaml", INTERPRETOPS_API_KEY="iop_wrong")
    assert (status, "no Risk Card: 401" in said) == (2, True), said
    status, said = gate()
    assert (status, "no Risk Card: 4" in said) == (2, True), said


def test_artifacts_of_the_platform_are_listed_shown_traced_back_and_verified(home, trace):
    local = ("--api", "local", "artifacts")
    assert trace in home.mechctl(*local, "ls")
    assert json.loads(home.mechctl(*local, "show", trace))["id"] == trace
    assert trace in home.mechctl(*local, "lineage", "traces")  # by the folder it was copied to
    assert f"whole    {trace}" in home.mechctl(*local, "verify")
    assert "there is no artifact" in home.mechctl(*local, "show", "tr_nobody", status=2)
    assert "cannot do `mechctl artifacts gc`" in home.mechctl(*local, "gc", status=2)


def test_what_a_platform_cannot_do_is_said_plainly(home):
    said = home.mechctl("--api", "local", "policy", "train-lora", "--out", "x", status=2)
    assert "a platform cannot do `mechctl policy train-lora`" in said


def test_a_policy_is_checked_and_explained_there(home):
    (home.path / "policy.yaml").write_text(POLICY)
    local = ("--api", "local", "policy")
    where = ("--config", "config.yaml")
    assert "damp is valid" in home.mechctl(*local, "validate", "policy.yaml", *where)
    assert "0.5" in home.mechctl(*local, "explain", "policy.yaml", *where)
    wrong = (home.path / "policy.yaml").read_text().replace("scale: 0.5", "scall: 0.5")
    (home.path / "wrong.yaml").write_text(wrong)
    said = home.mechctl(*local, "validate", "wrong.yaml", *where, status=2)
    assert "wrong.yaml:3:" in said
    assert "did you mean 'scale'" in said


def test_a_policy_goes_into_production_by_two_people_and_steers(home, client):
    (home.path / "policy.yaml").write_text(POLICY)
    where = ("--config", "config.yaml")
    mine = ("--api", "local", "policy")
    assert "damp@1 is proposed" in home.mechctl(*mine, "publish", "policy.yaml", *where)
    refused = home.mechctl(*mine, "approve", "damp@1", *where, status=2)
    assert "lacks the scope policies:approve" in refused
    issued = home.mechctl("keys", "issue", "second", "--role", "approver")
    key = re.search(r"iop_\w+", issued).group()
    hers = ("--api", client.base_url, "--key", key, "policy")
    assert "damp@1 is approved" in home.mechctl(*hers, "approve", "damp@1", *where)
    assert "damp@1 is active" in home.mechctl(*hers, "activate", "damp@1", *where)
    listed = home.mechctl(*mine, "versions", "damp", *where)
    assert "active" in listed
    said = home.mechctl("--api", "local", "steer", "--policy", "damp", "AAAA 01", *where)
    assert "under damp" in said
    assert "damp@1 is retired" in home.mechctl(*hers, "retire", "damp@1", *where)


def test_production_needs_a_platform_and_a_version(home):
    assert "--api local" in home.mechctl("policy", "versions", status=2)
    said = home.mechctl("--api", "local", "policy", "approve", "damp", status=2)
    assert "NAME@VERSION" in said


def test_a_job_is_followed_from_any_event_on(client, trace):
    job = next(job for job in client.jobs.list() if job.result == trace)
    events = list(client.jobs.watch(job.id))
    assert events[0].type == "queued"
    assert events[-1].type == "succeeded"
    assert [e.cursor for e in client.jobs.watch(job.id, after=events[0].cursor)] == [
        event.cursor for event in events[1:]
    ]


def test_a_refusal_names_the_field(client):
    with pytest.raises(ApiError) as caught:
        client.traces.create(["a"], {"sites": ["resid_post.1"], "positions": "lst"})
    assert caught.value.field == "spec.positions"
    assert caught.value.status == 422


def test_a_job_is_stopped(client, home):
    model = (home.path / "models" / "tiny").as_uri()
    prompts = [f"{i} " * 200 for i in range(400)]
    job = client.traces.create(prompts, {"sites": ["resid_post.1"]}, model=model)
    client.jobs.cancel(job.id)
    with pytest.raises(ApiError, match="was cancelled"):
        client.jobs.wait(job)
    assert client.jobs.get(job.id).state is JobState.CANCELLED


def test_another_key_sees_nothing(profile):
    key = "iop_aaaaaaaaaaaa_" + "A" * 43
    with Client(profile["api"], key) as stranger, pytest.raises(ApiError) as caught:
        stranger.whoami()
    assert caught.value.status == 401


def test_a_model_answers_at_once_and_piece_by_piece(client):
    (model,) = client.models()
    whole = client.chat("hi", model=model.name, max_tokens=4, temperature=0)
    pieces = list(client.chat_stream("hi", model=model.name, max_tokens=4, temperature=0))
    assert "".join(pieces) == whole


def test_a_killed_worker_is_started_again(home):
    state = home.folder.read_state()
    worker = next(p for p in state.programs if p.name == "worker")
    psutil.Process(worker.process.pid).kill()
    deadline = time.monotonic() + PATIENCE
    while True:
        now = next(p for p in home.folder.read_state().programs if p.name == "worker")
        if now.restarts == 1 and now.state == "ready":
            break
        assert time.monotonic() < deadline, home.logs()
        time.sleep(0.2)
    assert "worker was ended by SIGKILL; starting it again" in home.mechctl("logs", "supervisor")
