"""What the engine exports goes through the platform's object store and back without a change."""

from uuid import uuid4

from interpretops.artifacts import ArtifactKind, ArtifactStore
from interpretops_platform.artifacts import download, upload
from interpretops_platform.database.models import Artifact
from interpretops_platform.objects.file import FileBlobs
from interpretops_platform.objects.sealed import Seal, new_data_key
from interpretops_platform.objects.store import ObjectStore
from pydantic import BaseModel


class Spec(BaseModel):
    rate: float = 0.1


def test_an_artifact_of_the_engine_survives_the_journey(tmp_path):
    here, there = ArtifactStore(tmp_path / "here"), ArtifactStore(tmp_path / "there")
    with here.draft(ArtifactKind.TRACE, Spec()) as draft:
        draft.write_json("config.json", {"tokens": 12})
        draft.write_bytes("layers/8.bin", b"\0" * 3_000_000)
        made = draft.commit(summary={"tokens": 12})
    here.export(made.id, tmp_path / "exported")

    tenant_id = uuid4()
    seal = Seal(new_data_key(), tenant_id)
    blobs = FileBlobs(tmp_path / "objects")
    objects = ObjectStore(blobs, tenant_id, cache=tmp_path / "cache", seal=seal)
    uploaded = upload(objects, tmp_path / "exported")
    download(objects, Artifact(manifest=uploaded.content), tmp_path / "fetched")

    assert there.import_folder(tmp_path / "fetched") == made
    assert there.verify(made.id).whole
