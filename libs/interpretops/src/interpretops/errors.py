"""Errors a user can cause or cure.

Every one of them says in one line what is wrong and what to do about it; the command line prints
that line and exits with status 2. Anything else that escapes is a defect of ours and keeps its
traceback.
"""

from __future__ import annotations


class InterpretOpsError(Exception):
    """Something the user can fix.

    Args:
        problem: What is wrong, as a clause without a final full stop.
        fix: What to do about it, in the imperative.
    """

    def __init__(self, problem: str, *, fix: str) -> None:
        self.problem = " ".join(problem.split()).rstrip(".")
        self.fix = " ".join(fix.split()).rstrip(".")
        super().__init__(f"{self.problem}. Fix: {self.fix}.")


class Cancelled(InterpretOpsError):
    """Work was stopped at a step boundary; what it had finished is kept and will be resumed."""

    def __init__(self, stage: str) -> None:
        super().__init__(
            f"stopped during {stage}", fix="run the same command again to resume where it stopped"
        )
