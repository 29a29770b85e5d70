"""`mechctl`: the command line of InterpretOps."""

from interpretops.cli.app import main

__all__ = ["main"]
