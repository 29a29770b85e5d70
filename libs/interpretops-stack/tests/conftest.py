"""Real servers for the commands of an installation."""

from interpretops_platform.testing import (  # noqa: F401 - fixtures and a hook
    database,
    postgres_server,
    pytest_terminal_summary,
    settings,
)
