"""One `config.yaml` serves the engine and the platform."""

from interpretops.config import PLATFORM_SECTIONS, Config, load_config
from interpretops_platform.settings import Settings, load_settings

COMMON = set(Config.model_fields) & set(Settings.model_fields) - {"model", "runtime"}


def test_every_section_of_the_platform_is_the_engines_too_or_left_to_the_platform():
    assert set(Settings.model_fields) == set(Config.model_fields) | PLATFORM_SECTIONS
    for section in COMMON:
        theirs = Settings.model_fields[section].annotation.model_fields
        ours = Config.model_fields[section].annotation.model_fields
        assert set(theirs) <= set(ours), section


def test_a_file_with_every_common_key_is_read_by_both(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "cache: {dir: ./cache}\n"
        "store:\n"
        "  postgres_dsn: postgresql://user:pass@localhost:5432/interpretops\n"
        "  s3_endpoint: https://s3.ap-southeast-2.amazonaws.com\n"
        "  s3_bucket: interpretops-artifacts\n"
        "compliance: {pii_redaction: true, retention_days: 7, retain_every_hours: 2}\n"
    )
    ours, theirs = load_config(path), load_settings(path)
    assert ours.compliance.model_dump() == theirs.compliance.model_dump()
    assert ours.compliance.retain_every_hours == 2
    assert ours.store.s3_bucket == theirs.store.s3_bucket
