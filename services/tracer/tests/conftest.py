"""A real installation for every test."""

from interpretops_platform.testing import (  # noqa: F401 - fixtures and a hook
    broker_settings,
    postgres_server,
    pytest_terminal_summary,
    redis_url,
    settings,
)
from interpretops_service.testing import installation  # noqa: F401
