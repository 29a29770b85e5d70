"""Real servers for every test of the platform."""

from interpretops_platform.testing import (  # noqa: F401 - fixtures and a hook
    broker_settings,
    database,
    other_tenant_id,
    postgres_server,
    pytest_terminal_summary,
    redis_url,
    s3,
    settings,
    tenant_id,
)
