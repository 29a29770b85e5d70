"""Settings come from one file, the environment wins, and no message shows a secret."""

import pytest
from interpretops_platform.errors import SettingsError
from interpretops_platform.settings import Settings, load_settings

FILE = """
model: {name: "EleutherAI/pythia-1.4b", dtype: bfloat16}
store: {postgres_dsn: "postgresql://owner:hunter2@db:5432/interpretops"}
jobs: {lease_seconds: 60}
compliance: {retention_days: 14}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(FILE)
    return path


def test_the_file_of_the_readme_is_understood(config):
    settings = load_settings(config)
    assert settings.model["name"] == "EleutherAI/pythia-1.4b"
    assert settings.jobs.lease_seconds == 60
    owner = settings.owner_url()
    assert (owner.drivername, owner.username, owner.host) == ("postgresql+asyncpg", "owner", "db")


def test_the_environment_wins_key_by_key(config, monkeypatch):
    monkeypatch.setenv("INTERPRETOPS_JOBS__HINT_SECONDS", "7")
    monkeypatch.setenv("INTERPRETOPS_DATABASE__APP_PASSWORD", "hush")
    settings = load_settings(config)
    assert (settings.jobs.lease_seconds, settings.jobs.hint_seconds) == (60, 7)
    app = settings.app_url()
    assert (app.username, app.password, app.database) == (
        "interpretops_app",
        "hush",
        "interpretops",
    )


def test_settings_made_in_code_ignore_the_environment(monkeypatch):
    monkeypatch.setenv("INTERPRETOPS_JOBS__HINT_SECONDS", "7")
    assert Settings().jobs.hint_seconds == 30


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("jobs: {lease: 3}", "jobs.lease"),
        ("jobs: {lease_seconds: 10, heartbeat_seconds: 6}", "at most half"),
        ("unknown: {}", "unknown"),
        ("database: {owner_dsn: [hunter2]}", "database.owner_dsn"),
    ],
)
def test_a_mistake_is_named_and_its_value_is_not(tmp_path, content, message):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(path)
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_and_a_missing_login_say_what_to_do(tmp_path):
    with pytest.raises(SettingsError, match="Fix: name one that exists"):
        load_settings(tmp_path / "absent.yaml")
    with pytest.raises(SettingsError, match="INTERPRETOPS_DATABASE__OWNER_DSN"):
        Settings().owner_url()
    with pytest.raises(SettingsError, match="system_password"):
        Settings().system_url()


def test_secrets_do_not_show(config):
    settings = load_settings(config)
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()


def test_one_file_also_sets_calls_telemetry_and_identities(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "grpc: {default_unary_seconds: 5}\n"
        "telemetry: {log_level: WARNING}\n"
        "security: {oidc: {issuer: 'https://id.example', audience: interpretops}}\n"
    )
    settings = load_settings(path)
    assert settings.grpc.default_unary_seconds == 5
    assert settings.telemetry.log_level == "WARNING"
    assert settings.security.oidc.audience == "interpretops"


def test_secrets_come_from_files_as_orchestrators_mount_them(config, tmp_path, monkeypatch):
    mounted = tmp_path / "secrets" / "..2026_11_27"
    mounted.mkdir(parents=True)
    folder = mounted.parent
    values = {"database__app_password": "hush\n", "redis__url": "redis://:pw@redis:6379/0"}
    for name, value in values.items():
        (mounted / f"interpretops_{name}").write_text(value)
        (folder / f"interpretops_{name}").symlink_to(mounted / f"interpretops_{name}")
    (folder / "tls.crt").write_text("not a setting")
    monkeypatch.setenv("INTERPRETOPS_SECRETS_DIR", str(folder))
    settings = load_settings(config)
    assert settings.app_url().password == "hush"
    assert settings.redis.url.get_secret_value() == values["redis__url"]
    assert settings.jobs.lease_seconds == 60
    monkeypatch.setenv("INTERPRETOPS_DATABASE__APP_PASSWORD", "louder")
    assert load_settings(config).app_url().password == "louder"


def test_a_folder_of_secrets_that_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERPRETOPS_SECRETS_DIR", str(tmp_path / "nothing"))
    with pytest.raises(SettingsError, match="nothing"):
        load_settings()
