"""A real installation for every test."""

from interpretops_platform.testing import (  # noqa: F401 - fixtures
    broker_settings,
    postgres_server,
    redis_url,
    settings,
)
from interpretops_service.testing import installation  # noqa: F401
