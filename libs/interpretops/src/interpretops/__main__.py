"""`python -m interpretops` is `mechctl`."""

from interpretops.cli import main

main()
