"""One virtual environment per peer, because their pins conflict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENVS = HERE / ".venvs"
TORCH = "torch==2.13.0"
"""Installed first, so that every peer whose pins allow it computes with the same build."""

OURS = "interpretops"
"""The environment that runs the driver; the bare Hugging Face contestants run in it too."""

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "transformer-lens": ("transformer-lens==4.3.0",),
    "nnsight": ("nnsight==0.8.1",),
    "interp-engine": ("interp-engine==1.14.2",),
    "sae-lens": ("sae-lens==6.54.12",),
    "dictionary-learning": ("dictionary-learning==0.1.0",),
    "sparsify": ("eai-sparsify==1.3.3",),
    "repeng": ("repeng==0.4.0",),
    "steering-vectors": ("steering-vectors==0.12.2",),
}


def interpreter(environment: str) -> Path:
    """The Python of an environment."""
    return Path(sys.executable) if environment == OURS else VENVS / environment / "bin" / "python"


def set_up(environments: tuple[str, ...]) -> dict[str, str]:
    """Make the environments that are not there yet; returns what could not be made, and why."""
    failures: dict[str, str] = {}
    for environment in environments:
        ready = VENVS / environment / ".ready"
        requirements = REQUIREMENTS[environment]
        if ready.is_file() and ready.read_text() == "\n".join(requirements):
            continue
        print(f"── {environment}: {' '.join(requirements)}", flush=True)
        python = str(interpreter(environment))
        try:
            _run("-m", "uv", "venv", "--quiet", "--clear", str(VENVS / environment))
            # pip, not uv, takes torch: pip's own settings say where CPU builds are to be found.
            _run("-m", "pip", "--quiet", "--python", python, "install", TORCH)
            _run("-m", "uv", "pip", "install", "--quiet", "--python", python, *requirements)
            # Some peers depend on torchvision without importing it. The one that comes may be made
            # for another build of torch, and then it breaks transformers.
            _run("-m", "uv", "pip", "uninstall", "--quiet", "--python", python, "torchvision")
        except subprocess.CalledProcessError as error:
            failures[environment] = (error.stderr or "no message").strip().splitlines()[-1]
            print(f"   could not be made: {failures[environment]}", flush=True)
            continue
        ready.write_text("\n".join(requirements))
    return failures


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, text=True, stderr=subprocess.PIPE)
