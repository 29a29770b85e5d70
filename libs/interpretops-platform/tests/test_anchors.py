"""Heads are noted out of the database's reach, and no chain can be changed without contradicting them."""

import asyncio
import logging
import secrets

import boto3
import pytest
from botocore.exceptions import ClientError
from interpretops_platform import audit
from interpretops_platform.anchors import (
    AnchorMetrics,
    anchor,
    keep_anchoring,
    open_anchors,
    verify_anchored,
)
from interpretops_platform.audit import AuditBrokenError, Head
from interpretops_platform.audit_settings import AuditSettings
from interpretops_platform.database.engine import create_migration_engine
from interpretops_platform.database.session import tenant_session
from interpretops_platform.settings import ObjectsSettings
from interpretops_platform.telemetry.metrics import Metrics
from pydantic import SecretStr, ValidationError
from sqlalchemy import text


@pytest.fixture
def locked(s3):
    """A client of the S3 server, and a bucket whose objects cannot be deleted for a day."""
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name="us-east-1",
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
    )
    bucket = f"anchors-{secrets.token_hex(6)}"
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    client.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    return client, bucket


@pytest.fixture(params=["folder", "bucket"])
def anchored(request, settings, tmp_path):
    """Settings with a place for anchors."""
    if request.param == "folder":
        return settings.model_copy(update={"audit": AuditSettings(anchor_folder=tmp_path / "a")})
    server, (_, bucket) = request.getfixturevalue("s3"), request.getfixturevalue("locked")
    objects = ObjectsSettings(
        endpoint=server.endpoint,
        bucket="another-one",
        region="us-east-1",
        access_key=SecretStr(server.access_key),
        secret_key=SecretStr(server.secret_key),
    )
    changes = {"audit": AuditSettings(anchor_bucket=bucket), "objects": objects}
    return settings.model_copy(update=changes)


@pytest.fixture
def anchors(anchored):
    return open_anchors(anchored)


@pytest.fixture
def log(database, tenant_id):
    async def _log(action="policy.activate"):
        async with tenant_session(database, tenant_id) as session:
            return await audit.append(
                session, tenant_id, actor="ada", action=action, target="pol_1", body={}
            )

    return _log


@pytest.fixture
def cut(settings):
    """Cut off the end of every chain, as somebody can who took over the database."""

    async def _cut(beyond):
        owner = create_migration_engine(settings.owner_url(), settings.database)
        async with owner.begin() as connection:
            await connection.execute(text("ALTER TABLE audit_log DISABLE TRIGGER append_only"))
            await connection.execute(text(f"DELETE FROM audit_log WHERE seq > {beyond}"))
        await owner.dispose()

    return _cut


async def test_heads_are_noted_once(database, tenant_id, other_tenant_id, anchors, log):
    assert await anchor(database, anchors) == (0, {}), "empty chains have no head"
    first = await log()
    assert await anchor(database, anchors) == (1, {})
    assert await anchor(database, anchors) == (0, {})
    await log()
    last = await log()
    assert await anchor(database, anchors) == (1, {})
    assert anchors.noted(tenant_id) == [first, last]
    assert anchors.noted(other_tenant_id) == []
    assert await verify_anchored(database, tenant_id, anchors) == last


async def test_a_cut_or_rewritten_chain_contradicts_its_anchors(
    database, tenant_id, anchors, log, cut
):
    await log()
    noted = await log()
    await anchor(database, anchors)
    await cut(1)
    assert (await verify_anchored(database, tenant_id, None)).seq == 1, "sound in itself"
    with pytest.raises(AuditBrokenError, match="missing"):
        await verify_anchored(database, tenant_id, anchors)
    await log("something else")
    await log("and more")
    with pytest.raises(AuditBrokenError, match="not the one that was noted") as caught:
        await verify_anchored(database, tenant_id, anchors)
    assert caught.value.seq == 2
    found = await anchor(database, anchors)
    assert (found.noted, list(found.broken)) == (0, [tenant_id])
    assert anchors.noted(tenant_id) == [noted], "a broken chain is not noted"


async def test_a_false_anchor_shows_as_well(database, tenant_id, anchors, log):
    await log()
    await anchor(database, anchors)
    anchors.note(tenant_id, Head(1, "f" * 64))
    with pytest.raises(AuditBrokenError, match="noted"):
        await verify_anchored(database, tenant_id, anchors)


@pytest.mark.parametrize("anchored", ["bucket"], indirect=True)
async def test_a_locked_anchor_outlives_its_deletion(
    database, tenant_id, anchors, log, cut, locked
):
    client, bucket = locked
    await log()
    head = await log()
    await anchor(database, anchors)
    [version] = client.list_object_versions(Bucket=bucket)["Versions"]
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
    client.delete_object(Bucket=bucket, Key=version["Key"])  # leaves a marker above it
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)
    assert anchors.noted(tenant_id) == [head]
    await cut(1)
    with pytest.raises(AuditBrokenError, match="missing"):
        await verify_anchored(database, tenant_id, anchors)


@pytest.mark.parametrize("anchored", ["folder"], indirect=True)
async def test_the_keeper_says_what_it_found(
    database, tenant_id, anchors, anchored, log, cut, caplog
):
    await log()
    await log()
    metrics, stop = Metrics(), asyncio.Event()
    value = metrics.registry.get_sample_value
    settings = AuditSettings(anchor_folder=anchored.audit.anchor_folder, anchor_every_minutes=0.001)
    keeper = asyncio.create_task(
        keep_anchoring(database, anchors, settings, stop, AnchorMetrics(metrics))
    )

    async def until(condition):
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.02)

    await until(lambda: value("interpretops_audit_anchored_timestamp_seconds"))
    assert value("interpretops_audit_broken_chains_count") == 0
    with caplog.at_level(logging.ERROR):
        await cut(1)
        await until(lambda: value("interpretops_audit_broken_chains_count"))
    stop.set()
    await keeper
    assert f"the audit log of tenant {tenant_id} was changed: audit entry 2" in caplog.text


def test_there_is_one_place_for_anchors(settings, tmp_path):
    assert open_anchors(settings) is None
    with pytest.raises(ValidationError, match="exclude"):
        AuditSettings(anchor_folder=tmp_path, anchor_bucket="anchors")
