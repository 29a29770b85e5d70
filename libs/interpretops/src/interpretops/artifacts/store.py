"""The artifact store: drafts that survive a crash, commits that are whole or absent, lineage."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from interpretops.artifacts.manifest import (
    ArtifactKind,
    Manifest,
    ModelRef,
    PayloadFile,
    canonical_json,
    library_versions,
    new_id,
    payload_hash,
    spec_hash,
    utc_now,
)
from interpretops.artifacts.objects import FolderStore, ObjectStore, write_atomically
from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from pydantic import JsonValue

MANIFEST = "manifest.json"
_MEDIA_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".safetensors": "application/vnd.safetensors",
    ".pdf": "application/pdf",
    ".yaml": "application/yaml",
    ".html": "text/html",
    ".md": "text/markdown",
}


class Verdict(BaseModel):
    """What checking one artifact found. `problems` is empty exactly when it is whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    problems: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether every file is there with the size and hash its manifest states."""
        return not self.problems


@dataclass
class Draft:
    """A payload in the making: a folder that outlives the process and is resumed by spec hash.

    Files whose names begin with a dot are working state (checkpoints); they are dropped at commit.
    """

    store: ArtifactStore
    kind: ArtifactKind
    path: Path
    spec: BaseModel
    spec_hash: str
    model: ModelRef | None
    parents: tuple[str, ...]
    seeds: tuple[int, ...]
    committed: Manifest | None = field(default=None, init=False)

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Write a payload file atomically.

        Raises:
            InterpretOpsError: When the disk is full or refuses the write.
        """
        target = self.path / name
        with _disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, data)
        return target

    def write_json(self, name: str, value: object) -> Path:
        """Write canonical JSON (a pydantic model or plain data)."""
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        return self.write_bytes(name, canonical_json(plain))

    def write_tensors(
        self, name: str, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
    ) -> Path:
        """Write tensors as safetensors; the bytes depend on names and values alone."""
        # It loads torch, which whoever only reads manifests does without.
        from safetensors.torch import save

        ordered = {key: tensors[key].detach().cpu().contiguous() for key in sorted(tensors)}
        return self.write_bytes(name, save(ordered, metadata))

    def commit(
        self,
        summary: Mapping[str, JsonValue] | None = None,
        redactions: Mapping[str, int] | None = None,
    ) -> Manifest:
        """Make the draft an artifact: payload first, manifest last, draft folder gone.

        Args:
            summary: Headline figures shown by `mechctl artifacts show`.
            redactions: How many pieces of personal information of each kind were scrubbed.

        Returns:
            The new artifact's manifest.

        Raises:
            InterpretOpsError: When the payload cannot be stored.
        """
        payload = [
            path
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(self.path).parts)
        ]
        files = tuple(_describe(path, self.path) for path in payload)
        manifest = Manifest(
            kind=self.kind,
            id=new_id(self.kind),
            created_at=utc_now(),
            sha256=payload_hash(files),
            spec=self.spec.model_dump(mode="json"),
            spec_hash=self.spec_hash,
            seeds=self.seeds,
            model=self.model,
            parents=self.parents,
            libraries=library_versions(),
            files=files,
            summary=dict(summary or {}),
            redactions=dict(redactions or {}),
        )
        with _disk_errors(self.path):
            for path, file in zip(payload, files, strict=True):
                self.store.objects.put_file(_key(manifest.id, file.path), path)
            self.store.objects.put_bytes(
                _key(manifest.id, MANIFEST), manifest.model_dump_json(indent=2).encode()
            )
        self.committed = manifest
        return manifest


class ArtifactStore:
    """Artifacts below one root: `artifacts/<id>/` for what is whole, `drafts/` for what is not yet.

    Args:
        root: Folder for drafts, and for the artifacts themselves unless `objects` is given.
        objects: Where artifacts are kept; a folder below `root` by default.
    """

    def __init__(self, root: Path, objects: ObjectStore | None = None) -> None:
        self.root = root.expanduser()
        self.objects: ObjectStore = objects or FolderStore(self.root)
        self._checked: set[str] = set()

    # --- making ---------------------------------------------------------------------------------

    def find(
        self,
        kind: ArtifactKind,
        spec: BaseModel,
        *,
        model: ModelRef | None = None,
        parents: Sequence[str] = (),
    ) -> Manifest | None:
        """The newest whole artifact made by exactly this work, or None."""
        wanted = self._spec_hash(kind, spec, model, parents)
        matches = [m for m in self.ls(kind) if m.spec_hash == wanted and self.verify(m.id).whole]
        return matches[-1] if matches else None

    @contextmanager
    def draft(
        self,
        kind: ArtifactKind,
        spec: BaseModel,
        *,
        model: ModelRef | None = None,
        parents: Sequence[str] = (),
        seeds: Sequence[int] = (),
    ) -> Iterator[Draft]:
        """Open the work folder of a spec, exclusively, with what an earlier run left in it.

        The folder is removed after `Draft.commit` and kept when the block ends any other way.

        Raises:
            InterpretOpsError: When another process is making the same thing.
        """
        parent_ids = tuple(self.get(parent).id for parent in parents)
        key = self._spec_hash(kind, spec, model, parent_ids)
        folder = self.root / "drafts" / f"{kind.prefix}-{key[:24]}"
        with _disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder.parent / f"{folder.name}.lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InterpretOpsError(
                    f"another process is already making this {kind.value}",
                    fix="wait for it to finish, or stop it and run this again to resume its work",
                ) from error
            draft = Draft(self, kind, folder, spec, key, model, parent_ids, tuple(seeds))
            yield draft
            if draft.committed is not None:
                shutil.rmtree(folder)
                Path(lock.name).unlink(missing_ok=True)

    # --- reading --------------------------------------------------------------------------------

    def get(self, ref: str | Path) -> Manifest:
        """The manifest of an artifact.

        Args:
            ref: An id (or a unique beginning of one), or the path of an exported folder.

        Raises:
            InterpretOpsError: When there is no such artifact or its manifest is damaged.
        """
        folder = Path(ref)
        if (folder / MANIFEST).is_file():
            self.import_folder(folder)
            return _parse((folder / MANIFEST).read_bytes(), str(folder))
        if folder.is_dir():
            raise InterpretOpsError(
                f"{ref} holds no {MANIFEST}, so it is not an artifact",
                fix="pass an artifact id from `mechctl artifacts ls` or a folder made by --out",
            )
        try:
            return _parse(self.objects.get_bytes(_key(str(ref), MANIFEST)), str(ref))
        except (FileNotFoundError, NotADirectoryError):
            pass
        matches = [m for m in self.ls() if m.id.startswith(str(ref))]
        if len(matches) == 1 and len(str(ref)) >= 6:
            return matches[0]
        raise InterpretOpsError(
            f"there is no artifact {ref!r} in {self.root}",
            fix="list what is there with `mechctl artifacts ls`",
        )

    def payload(self, ref: str | Path) -> Path:
        """The folder that holds the payload, after its hashes were checked once in this process.

        Raises:
            InterpretOpsError: When a file is missing, truncated or altered.
        """
        manifest = self.get(ref)
        if manifest.id not in self._checked:
            verdict = self.verify(manifest.id)
            if not verdict.whole:
                raise InterpretOpsError(
                    f"artifact {manifest.id} is damaged: {verdict.problems[0]}",
                    fix=f"run `mechctl artifacts gc --id {manifest.id}` and make it again",
                )
            self._checked.add(manifest.id)
        return self.objects.local_path(_key(manifest.id, MANIFEST)).parent

    def ls(self, kind: ArtifactKind | None = None) -> list[Manifest]:
        """Every whole artifact, oldest first. A damaged manifest is left out; `verify` names it."""
        found = []
        for key in self.objects.list("artifacts/"):
            if not key.endswith(f"/{MANIFEST}"):
                continue
            try:
                manifest = _parse(self.objects.get_bytes(key), key)
            except InterpretOpsError:
                continue
            if kind is None or manifest.kind is kind:
                found.append(manifest)
        return sorted(found, key=lambda manifest: manifest.id.partition("_")[2])

    def ids(self) -> list[str]:
        """Ids of all artifact folders, damaged ones too."""
        return sorted({key.split("/")[1] for key in self.objects.list("artifacts/")})

    def lineage(self, ref: str | Path) -> list[Manifest]:
        """The artifact and everything it was made from: parents before children, `ref` last.

        Raises:
            InterpretOpsError: When an ancestor is missing.
        """
        order: dict[str, Manifest] = {}

        def visit(identifier: str) -> None:
            if identifier in order:
                return
            manifest = self.get(identifier)
            for parent in manifest.parents:
                visit(parent)
            order[manifest.id] = manifest

        visit(self.get(ref).id)
        return list(order.values())

    def verify(self, ref: str) -> Verdict:
        """Compare every payload file with the size and hash in the manifest."""
        try:
            manifest = _parse(self.objects.get_bytes(_key(ref, MANIFEST)), ref)
        except FileNotFoundError:
            return Verdict(id=ref, problems=("its manifest is missing",))
        except InterpretOpsError as error:
            return Verdict(id=ref, problems=(error.problem,))
        problems = []
        for file in manifest.files:
            path = self.objects.local_path(_key(ref, file.path))
            if not path.is_file():
                problems.append(f"{file.path} is missing")
            elif path.stat().st_size != file.size:
                problems.append(f"{file.path} has {path.stat().st_size} bytes, not {file.size}")
            elif _sha256(path) != file.sha256:
                problems.append(f"{file.path} has been altered (its SHA-256 differs)")
        if payload_hash(manifest.files) != manifest.sha256:
            problems.append("its manifest has been altered (payload hash differs)")
        return Verdict(id=ref, problems=tuple(problems))

    # --- moving and removing --------------------------------------------------------------------

    def export(self, ref: str | Path, out: Path) -> Path:
        """Copy an artifact (payload and manifest) into the folder `out`, manifest last.

        What an earlier export left in `out` is replaced.

        Raises:
            InterpretOpsError: When `out` holds something that is not an exported artifact.
        """
        manifest = self.get(ref)
        source = self.payload(manifest.id)
        if out.exists() and (
            not out.is_dir() or (any(out.iterdir()) and not (out / MANIFEST).exists())
        ):
            raise InterpretOpsError(
                f"{out} is in the way: it holds something other than an artifact",
                fix="give --out an empty or new folder",
            )
        with _disk_errors(out):
            if out.exists():
                shutil.rmtree(out)
            for file in manifest.files:
                target = out / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / file.path, target)
            out.mkdir(parents=True, exist_ok=True)
            write_atomically(out / MANIFEST, manifest.model_dump_json(indent=2).encode())
        return out

    def import_folder(self, folder: Path) -> Manifest:
        """Take an exported folder into the store, unless it is there already.

        Raises:
            InterpretOpsError: When the folder's files do not match its manifest.
        """
        manifest = _parse((folder / MANIFEST).read_bytes(), str(folder))
        if manifest.id in self.ids():
            return manifest
        staged = self.root / "drafts" / f"import-{manifest.id}"
        with _disk_errors(staged):
            for file in manifest.files:
                path = folder / file.path
                if not path.is_file() or _sha256(path) != file.sha256:
                    raise InterpretOpsError(
                        f"{path} is missing or was altered after it was exported",
                        fix="export the artifact again with --out",
                    )
                (staged / file.path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, staged / file.path)
                self.objects.put_file(_key(manifest.id, file.path), staged / file.path)
            self.objects.put_bytes(
                _key(manifest.id, MANIFEST), manifest.model_dump_json(indent=2).encode()
            )
            shutil.rmtree(staged, ignore_errors=True)
        return manifest

    def remove(self, identifier: str) -> None:
        """Delete one artifact, its manifest first so that no half of it is taken for whole."""
        self.objects.delete(_key(identifier, MANIFEST))
        self.objects.delete(f"artifacts/{identifier}")

    def gc(self, retention_days: float, *, dry_run: bool = False) -> list[Manifest]:
        """Remove artifacts older than `retention_days` that nothing younger was made from.

        Abandoned drafts of the same age and folders without a manifest go too.

        Returns:
            The manifests of the artifacts removed (or that would be).
        """
        limit = utc_now() - timedelta(days=retention_days)
        manifests = self.ls()
        kept: set[str] = set()
        for manifest in reversed(manifests):
            if manifest.created_at >= limit or manifest.id in kept:
                kept.add(manifest.id)
                kept.update(manifest.parents)
        expired = [m for m in manifests if m.id not in kept]
        if not dry_run:
            for manifest in expired:
                self.remove(manifest.id)
            drafts = self.root / "drafts"
            for folder in drafts.iterdir() if drafts.is_dir() else ():
                if folder.stat().st_mtime < limit.timestamp():
                    shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
        return expired

    def _spec_hash(
        self, kind: ArtifactKind, spec: BaseModel, model: ModelRef | None, parents: Sequence[str]
    ) -> str:
        return spec_hash(kind, spec, model, [self.get(parent).sha256 for parent in parents])


def _key(identifier: str, path: str) -> str:
    return f"artifacts/{identifier}/{path}"


def _parse(data: bytes, where: str) -> Manifest:
    try:
        return Manifest.model_validate(json.loads(data))
    except (ValidationError, ValueError) as error:
        raise InterpretOpsError(
            f"the manifest of {where} is not readable",
            fix="restore it from a copy, or make the artifact again",
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe(path: Path, root: Path) -> PayloadFile:
    return PayloadFile(
        path=path.relative_to(root).as_posix(),
        sha256=_sha256(path),
        size=path.stat().st_size,
        media_type=_MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
    )


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn what a disk refuses into one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InterpretOpsError(
                f"the disk that holds {path} is full",
                fix="free space or set cache.dir to another disk, then run this again to resume",
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise InterpretOpsError(
                f"{path} cannot be written ({error.strerror})",
                fix="choose a folder you may write with cache.dir or --out",
            ) from error
        raise
