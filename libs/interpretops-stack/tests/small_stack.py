"""A stack of small programs, run by the real supervisor: `python small_stack.py FOLDER PORT PORT`."""

import logging
import sys
from pathlib import Path

from interpretops_stack.folder import StackFolder
from interpretops_stack.program import Program, answers_http
from interpretops_stack.supervisor import Supervisor

# Starts a child that ignores being asked to end, as the pool of a worker may.
PARENT = """
import signal, subprocess, sys, time
subprocess.Popen([sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"])
print("parent of one", flush=True)
time.sleep(600)
"""


def programs(folder: Path, base_port: int, top_port: int) -> list[Program]:
    def web(name: str, port: int, stage: int) -> Program:
        command = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")
        ready = answers_http(port, "/")
        return Program(name, "serves", command, stage, ready=ready, port=port, folder=folder)

    mark = f"from pathlib import Path; Path({str(folder / 'task')!r}).write_text('done')"
    return [
        web("base", base_port, 0),
        Program("task", "runs once", (sys.executable, "-c", mark), 1, once=True),
        Program("parent", "has a child", (sys.executable, "-c", PARENT), 2, grace_seconds=1),
        web("top", top_port, 3),
        Program("early", "needs nobody yet", ("sleep", "600"), 3, start_stage=0),
    ]


if __name__ == "__main__":
    stack = StackFolder(Path(sys.argv[1]))
    stack.make()
    logging.basicConfig(level=logging.INFO)
    with stack.hold():
        Supervisor(
            programs(stack.path, int(sys.argv[2]), int(sys.argv[3])), stack, marker=sys.argv[1]
        ).run()
