"""What the command line leaves unloaded: whoever asks for help or a platform does not wait for torch."""

from __future__ import annotations

import subprocess
import sys

_RUN = """
import sys
import time
from interpretops.cli import main

time.sleep = lambda seconds: None  # nobody answers, however often they are asked
for line in sys.stdin.read().splitlines():
    sys.argv = ["mechctl", *line.split()]
    try:
        main()
    except SystemExit as left:
        print(left.code, line, [name for name in ("torch", "transformers") if name in sys.modules])
"""

NOBODY = "--api http://127.0.0.1:9 --key iop_none"
LINES = [
    (0, "--help"),
    (0, "policy --help"),
    (0, "trace --help"),
    (2, f"{NOBODY} artifacts ls"),
    (2, f"{NOBODY} artifacts show tr_01HZZZZZZZZZZZZZZZZZZZZZZZ"),
    (2, f"{NOBODY} artifacts lineage tr_01HZZZZZZZZZZZZZZZZZZZZZZZ"),
    (2, f"{NOBODY} artifacts names"),
    (2, f"{NOBODY} policy versions"),
    (2, f"{NOBODY} policy activate jailbreak-v1@1"),
    (2, f"{NOBODY} policy validate pol_01HZZZZZZZZZZZZZZZZZZZZZZZ"),
    (2, f"{NOBODY} steer --policy jailbreak-v1 Hello"),
]


def test_help_and_a_platform_s_verbs_load_no_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        input="\n".join(line for _, line in LINES),
        capture_output=True,
        text=True,
        check=True,
    )
    said = [line for line in done.stdout.splitlines() if line.endswith("]")]
    assert said[-len(LINES) :] == [f"{status} {line} []" for status, line in LINES], done.stderr
