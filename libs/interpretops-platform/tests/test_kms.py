"""Data keys are wrapped by a key management service that never shows its own key."""

import os
from uuid import uuid4

import pytest
from interpretops_platform.errors import SettingsError
from interpretops_platform.objects.kms import KeyServiceUnavailableError, KmsMasterKey
from interpretops_platform.objects.sealed import FileMasterKey, SealBrokenError
from interpretops_platform.settings import SecuritySettings, Settings
from interpretops_platform.tenants import open_master_key

boto3 = pytest.importorskip("boto3")
moto = pytest.importorskip("moto")
DATA_KEY = b"k" * 32


@pytest.fixture
def kms(monkeypatch):
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-southeast-2")
    with moto.mock_aws():
        yield boto3.client("kms")


@pytest.fixture
def key_id(kms):
    return kms.create_key()["KeyMetadata"]["Arn"]


def test_a_data_key_comes_back_for_its_tenant_only(key_id):
    tenant_id, master = uuid4(), KmsMasterKey(key_id)
    wrapped = master.wrap(DATA_KEY, tenant_id)
    assert DATA_KEY not in wrapped
    assert master.unwrap(wrapped, tenant_id) == DATA_KEY
    for blob, tenant in ((wrapped, uuid4()), (wrapped[:-1], tenant_id), (b"", tenant_id)):
        with pytest.raises(SealBrokenError):
            master.unwrap(blob, tenant)


def test_an_unwrapped_key_is_asked_for_once(key_id):
    tenant_id, master, calls = uuid4(), KmsMasterKey(key_id), []
    master._client.meta.events.register("before-call.kms.*", lambda model, **_: calls.append(model))
    wrapped = [master.wrap(DATA_KEY, tenant_id) for _ in range(2)]
    for blob in wrapped * 3:
        assert master.unwrap(blob, tenant_id) == DATA_KEY
    names = [model.name for model in calls]
    assert (names.count("Encrypt"), names.count("Decrypt")) == (2, 2)


def test_tenants_move_from_a_file_to_kms_and_between_its_keys(kms, key_id):
    tenant_id, file = uuid4(), FileMasterKey([os.urandom(32)])
    by_file = file.wrap(DATA_KEY, tenant_id)
    moving = KmsMasterKey(key_id, before=file)
    assert moving.unwrap(by_file, tenant_id) == DATA_KEY
    with pytest.raises(SealBrokenError):
        KmsMasterKey(key_id).unwrap(by_file, tenant_id)
    by_first = moving.wrap(DATA_KEY, tenant_id)
    second = KmsMasterKey(kms.create_key()["KeyMetadata"]["KeyId"])
    assert second.unwrap(by_first, tenant_id) == DATA_KEY


def test_the_settings_choose_it(key_id, tmp_path):
    assert open_master_key(Settings()) is None
    chosen = open_master_key(Settings(security=SecuritySettings(master_key_kms=key_id)))
    assert isinstance(chosen, KmsMasterKey)


def test_what_is_set_up_wrongly_is_said(kms, key_id, monkeypatch):
    with pytest.raises(SettingsError, match="NotFoundException"):
        KmsMasterKey(str(uuid4())).wrap(DATA_KEY, uuid4())
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(SettingsError, match="region"):
        KmsMasterKey(key_id)


def test_a_service_that_is_away_may_come_back(monkeypatch):
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-southeast-2")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(KeyServiceUnavailableError) as caught:
        KmsMasterKey("alias/any").wrap(DATA_KEY, uuid4())
    assert caught.value.transient
