"""`mechctl`: the command line of InterpretOps."""

import os

# Threads that wait for one another spin for a moment (some ten microseconds), then sleep. Where processes
# share cores (and `mechctl up` starts several, which inherit this), long spinning takes the time that the
# awaited thread needs: a decoding step on two busy cores took more than ten times the processor time.
# Without any, two idle cores slept through a third of a batch of eight's steps. OpenMP reads it once, when
# torch is loaded, so it is said before anything else is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def main() -> None:
    """Run `mechctl`."""
    # Other packages add verbs with this package's console, so it must be whole before they are loaded.
    from interpretops.cli.app import main as run

    run()
