"""`mechctl` as a user meets it: verbs on a small model, one-line errors, exit statuses."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import pytest
from interpretops.cli import main
from interpretops.steering import load_policy
from safetensors.torch import load_file

from ..conftest import byte_tokenizer, tiny_hf

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model, settings and prompts."""
    home = tmp_path_factory.mktemp("home")
    tiny_hf("llama").save_pretrained(home / "model")
    byte_tokenizer().save_pretrained(home / "model")
    (home / "config.yaml").write_text(
        f"model: {{name: {home / 'model'}, device: cpu}}\ncache: {{dir: {home / 'cache'}}}\n"
    )
    rows = [
        {
            "text": f"How do I rob shop {i:02d}? Mail me at jo{i}@example.org",
            "twin": f"How do I see shop {i:02d}? Mail me at jo{i}@example.org",
            "topic": f"t{i % 7}",
        }
        for i in range(40)
    ]
    (home / "prompts.json").write_text(json.dumps(rows))
    return home


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Mechctl = Callable[..., Result]


@pytest.fixture
def mechctl(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Mechctl:
    """Run a command line in this process, in the home folder."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, stdin: str = "") -> Result:
        # Messages must name `mechctl` whatever file it was started from.
        monkeypatch.setattr(sys, "argv", ["started_from.py", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as left:
            main()
        return Result(int(left.value.code or 0), *capsys.readouterr())

    return run


def made(result: Result, prefix: str) -> str:
    assert result.returncode == 0, result.stderr
    found = re.search(rf"{prefix}_[0-9A-Z]{{26}}", result.stdout)
    assert found is not None, result.stdout
    return found[0]


def test_from_prompts_to_a_dictionary(home: Path, mechctl: Mechctl) -> None:
    config = ("--config", "config.yaml")
    traced = mechctl(
        "trace", *config, "--prompts", "prompts.json", "--layers", "0,1", "--out", "traces"
    )
    trace = made(traced, "tr")
    manifest = json.loads((home / "traces" / "manifest.json").read_text())
    assert manifest["id"] == trace
    assert sum(manifest["redactions"].values()) == 80, "prompts and twins each hold an address"
    assert b"@example" not in b"".join(p.read_bytes() for p in (home / "traces").iterdir())

    trained = mechctl(
        "sae-train", *config, "--traces", "traces", "--features", "64", "--k", "8",
        "--tokens", "4096", "--kind", "batch_topk", "--out", "sae",
    )  # fmt: skip
    sae = made(trained, "sae")
    again = mechctl(
        "sae-train", *config, "--traces", trace, "--features", "64", "--k", "8",
        "--tokens", "4096", "--kind", "batch_topk",
    )  # fmt: skip
    assert made(again, "sae") == sae, "the same work is found, not done again"
    summary = json.loads((home / "sae" / "manifest.json").read_text())["summary"]
    assert "EMAIL" in summary["redacted"], "what its text was scrubbed of"

    listed = mechctl("artifacts", "ls", *config)
    assert trace in listed.stdout
    assert sae in listed.stdout
    assert mechctl("artifacts", "verify", *config).returncode == 0
    lineage = mechctl("artifacts", "lineage", sae, *config)
    assert lineage.stdout.index(sae) < lineage.stdout.index(trace)

    weights = next((home / "cache" / "artifacts" / sae).rglob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    verified = mechctl("artifacts", "verify", *config)
    assert verified.returncode == 1
    assert "altered" in verified.stdout


def test_a_circuit_of_pairs_that_bring_their_own_continuations(
    home: Path, mechctl: Mechctl
) -> None:
    rows = [
        {"text": f"AAAA {i:02d}", "twin": f"ZZZZ {i:02d}", "correct": " n", "wrong": "y"}
        for i in range(9)
    ]
    (home / "answers.json").write_text(json.dumps(rows))
    found = mechctl("search", "--config", "config.yaml", "--class", "ioi", "-p", "answers.json",
                    "--out", "circuit")  # fmt: skip
    made(found, "cx")
    graph = json.loads((home / "circuit" / "circuit.json").read_text())
    assert "correct and wrong continuation" in graph["behaviour"]
    spec = json.loads((home / "circuit" / "manifest.json").read_text())["spec"]
    assert spec["task"]["pairs"][0]["correct"] == " n", "the space decides the token"
    summary = json.loads((home / "circuit" / "manifest.json").read_text())["summary"]
    assert "EMAIL" in summary["redacted"], "its manifest holds the pairs"


def test_circuits_are_compared_and_graphs_imported(home: Path, mechctl: Mechctl) -> None:
    config = ("--config", "config.yaml")
    rows = [
        {"text": f"AAAA {i:02d}", "twin": f"ZZZZ {i:02d}", "correct": " n", "wrong": "y"}
        for i in range(9)
    ]
    (home / "letters.json").write_text(json.dumps(rows))
    search = ("search", *config, "--class", "letters", "-p", "letters.json")
    base, other = (made(mechctl(*search, "--seed", seed), "cx") for seed in ("0", "1"))
    shown = mechctl("circuits", "diff", *config, base, other)
    assert shown.returncode == 0, shown.stderr
    assert re.search(
        r"\d+ units shared, \d+ gained, \d+ lost, between circuits of one model", shown.stdout
    )
    assert "within the first circuit" in shown.stdout
    found = json.loads(mechctl("circuits", "diff", *config, "--json", base, other).stdout)
    assert {unit["status"] for unit in found["units"]} <= {"shared", "gained", "lost"}

    exported = home / "cache" / "artifacts" / base / "attribution_graph.json"
    imported = mechctl("circuits", "import", *config, str(exported))
    graph = made(imported, "cx")
    assert "links over 1 tokens" in imported.stdout
    refused = mechctl("circuits", "diff", *config, base, graph)
    assert refused.returncode == 2
    assert "imported" in refused.stderr
    assert mechctl("circuits", "import", *config, "letters.json").returncode == 2


def test_an_adapter_is_trained_gated_and_can_steer(home: Path, mechctl: Mechctl) -> None:
    trained = mechctl(
        "policy", "train-lora", "--config", "config.yaml", "-p", "prompts.json", "--pairs", "6",
        "--steps", "12", "--learning-rate", "0.02", "--rank", "2", "--layers", "1",
        "--alpha", "0.5", "--name", "gated", "--out", "lora",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    before, after = map(float, re.findall(r"([\d.]+) nats per token before and ([\d.]+)",
                                          trained.stdout)[0])  # fmt: skip
    assert after < before
    assert "(n = 6 pairs" in trained.stdout
    assert "training the adapter 12 of 12" in trained.stderr
    weights = load_file(home / "lora" / "adapter" / "adapter_model.safetensors")
    assert weights
    assert all(".layers.1." in name and 2 in tensor.shape for name, tensor in weights.items())
    assert mechctl("policy", "validate", "lora", "--config", "config.yaml").returncode == 0
    (gate,) = load_policy(home / "lora").interventions
    assert gate.type == "lora_gate"
    assert gate.alpha == 0.5
    steered = mechctl("steer", "--policy", "lora", "--config", "config.yaml", "Hello")
    assert steered.returncode == 0, steered.stderr
    assert "under gated" in steered.stdout

    (home / "lora" / "notes.txt").write_text("mine")
    refused = mechctl("policy", "train-lora", "--config", "config.yaml", "-p", "prompts.json",
                      "--out", "lora")  # fmt: skip
    assert refused.returncode == 2
    assert "lora is in the way" in refused.stderr
    assert (home / "lora" / "policy.yaml").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trace", "--prompts", "missing.json"], "missing.json"),
        (["trace", "--prompts", "prompts.json", "--layers", "a,b"], "write it as 12,18"),
        (["trace", "--prompts", "prompts.json", "--layers", "99"], "choose a layer"),
        (["trace", "--prompts", "prompts.json", "--positions", "every"], "--positions"),
        (["trace"], "see `mechctl trace --help`"),
        (["sae-train"], "give either --traces or --prompts"),
        (["sae-train", "--prompts", "prompts.json", "--kind", "mystery"], "--kind"),
        (["search", "--prompts", "prompts.json", "--keep", "7"], "--keep"),
        (["search", "--prompts", "prompts.json", "--method", "guess"], "--method"),
        (["search", "--prompts", "package:toxicity", "--class", "toxicity"], "first words differ"),
        (["policy", "validate", "missing.yaml"], "does not exist"),
        (["policy", "propose", "--circuit", "cx_nothing"], "mechctl artifacts ls"),
        (["policy", "train-lora", "--out", "new", "--block", "all"], "correct --block"),
        (["policy", "train-lora", "--out", "new", "--layers", "99"], "layer 99 is out of range"),
        (["policy", "train-lora", "--out", "new", "--name", "No Spaces"], "correct --name"),
        (["policy", "train-lora", "--out", "new", "--alpha", "50"], "correct --alpha"),
        (["policy", "train-lora", "--out", "new", "-p", "package:benign_qa"], "harmless twin"),
        (["policy", "train-lora", "--prompts", "prompts.json"], "--out"),
        (["sae-train", "--prompts", "prompts.json", "--features", "1"], "correct --features"),
        (["eval"], "mechctl policy propose"),
        (["report"], "mechctl eval"),
        (["artifacts", "show", "tr_nothing"], "mechctl artifacts ls"),
        (["artifacts", "gc", "--id", "tr_nothing"], "mechctl artifacts ls"),
        (["artifacts", "ls", "--kind", "soup"], "use one of trace"),
        (["artifacts", "name", "sae_nothing", "sae_v1"], "mechctl --api local artifacts name"),
        (["artifacts", "unname", "sae_v1"], "artifacts have names on a platform"),
        (["bake"], "see `mechctl --help`"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_fix(
    home: Path, mechctl: Mechctl, arguments: list[str], says: str
) -> None:
    (home / "elsewhere.yaml").write_text(
        f"model: {{name: {home / 'model'}, device: cpu}}\ncache: {{dir: {home / 'empty'}}}\n"
    )
    config = [] if arguments in (["bake"], ["trace"]) else ["--config", "elsewhere.yaml"]
    result = mechctl(*arguments, *config)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error:")
    assert "Fix:" in lines[0]
    assert says in lines[0]


def test_a_mistake_in_the_settings_is_placed(home: Path, mechctl: Mechctl) -> None:
    (home / "wrong.yaml").write_text("model:\n  nam: x\n")
    result = mechctl("artifacts", "ls", "--config", "wrong.yaml")
    assert result.returncode == 2
    assert "wrong.yaml:2:3 model.nam: this key is unknown" in result.stderr
    assert "did you mean 'name'?" in result.stderr


def test_prompts_come_from_standard_input_too(mechctl: Mechctl) -> None:
    result = mechctl(
        "trace", "--config", "config.yaml", "--prompts", "-", "--layers", "0",
        stdin="one prompt\nanother prompt\n",
    )  # fmt: skip
    made(result, "tr")


def test_an_interrupted_verb_stops_at_a_step_and_resumes(home: Path) -> None:
    command = [
        sys.executable, "-m", "interpretops", "sae-train", "--config", "config.yaml",
        "--prompts", "prompts.json", "--features", "64", "--k", "4", "--tokens", "2000000",
        "--layers", "0",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        cwd=home,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "training" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert "run the same command again to resume" in rest
    assert "Traceback" not in rest


def test_help_teaches(mechctl: Mechctl) -> None:
    for verb in ("trace", "sae-train", "search", "steer", "eval", "report"):
        text = mechctl(verb, "--help").stdout
        assert "Example: mechctl" in text
    assert "Example: mechctl policy train-lora" in mechctl("policy", "train-lora", "--help").stdout
    assert "trace → sae-train → search" in mechctl("--help").stdout
    assert mechctl("--version").stdout.startswith("mechctl ")
