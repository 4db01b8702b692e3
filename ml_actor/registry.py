"""The registry of model versions: written whole or not at all, checked before anything is loaded, rolled back by a pointer.

    models/
      .key                      32 bytes, mode 0600: versions signed by another installation are refused
      v0003-1a2b3c4d/           manifest.json (facts, SHA-256 and size of each file, HMAC-SHA256) and the files of `artifacts`
      champion.json             {"champion": version, "history": [older champions, oldest first]}, replaced atomically
      champion.previous.json    the pointer before that

Reading: signature, then hash of each file, then those same bytes are loaded, then golden windows must be reproduced.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.errors import IntegrityError, TidebookError
from ml_actor.artifacts import FILES, unpack
from ml_actor.features.catalogue import SCHEMA_HASH
from ml_actor.models import ModelBundle

_VERSION: Final = re.compile(r"v(\d{4,9})-[0-9a-f]{8}")
_KEY_BYTES: Final = 32
_MAX_MANIFEST_BYTES: Final = 4 << 20
_MAX_HISTORY: Final = 20


class UnknownVersion(TidebookError):
    """No such version in the registry."""


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Digest and size of one file."""

    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a version is. `facts` holds metrics, data span, reason, library versions and the like."""

    version: str
    number: int
    schema_hash: str
    window_rows: int
    horizon_rows: int
    facts: dict[str, Any]
    files: dict[str, FileFacts]
    signature: str = ""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A version (or the pointer) that could not be loaded, and why."""

    version: str
    reason: str


class _Pointer(msgspec.Struct, frozen=True, kw_only=True):
    champion: str
    history: tuple[str, ...] = ()


class Registry:
    """Versions in one directory. One process saves at a time; any number may read. Nothing suspends; files are read whole.

    `refused` lists what the last `load_champion` could not load.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.refused: tuple[Refused, ...] = ()

    # --- writing

    def save(self, files: Mapping[str, bytes], *, window_rows: int, horizon_rows: int, facts: dict[str, Any]) -> str:
        """Store a version and return its name (`v0003-1a2b3c4d`: a rising number and the digest of its files).

        Everything is written and synced under a temporary name and renamed last: after a crash the version is there
        whole or not at all. Raises `OSError` when the disk does not take it.
        """
        if set(files) != set(FILES):
            raise ValueError(f"a version has the files {FILES}, got {sorted(files)}")
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()
        digests = {name: FileFacts(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)) for name, content in files.items()}
        identity = hashlib.sha256(repr(sorted((name, file.sha256) for name, file in digests.items())).encode()).hexdigest()[:8]
        number = 1 + max((_number(version) for version in self._names()), default=0)
        manifest = Manifest(
            version=f"v{number:04d}-{identity}",
            number=number,
            schema_hash=SCHEMA_HASH,
            window_rows=window_rows,
            horizon_rows=horizon_rows,
            facts=facts,
            files=digests,
        )
        self._write_version(manifest, files)
        return manifest.version

    def _write_version(self, manifest: Manifest, files: Mapping[str, bytes]) -> None:
        signed = msgspec.structs.replace(manifest, signature=_signature(manifest, self._key(create=True)))
        temporary = self.directory / f".new-{manifest.version}"
        temporary.mkdir(mode=0o700)
        for name, content in files.items():
            _write_synced(temporary / name, content)
        _write_synced(temporary / "manifest.json", msgspec.json.format(msgspec.json.encode(signed), indent=1))
        _sync_directory(temporary)
        os.rename(temporary, self.directory / manifest.version)
        _sync_directory(self.directory)

    def promote(self, version: str) -> None:
        """Make `version` the champion, after loading it once. Raises `UnknownVersion` or `IntegrityError`; the old one stays then."""
        self.load(version)
        pointer = self._pointer()
        if pointer is None:
            self._point(_Pointer(champion=version))
        elif pointer.champion != version:
            history = (*(old for old in pointer.history if old != version), pointer.champion)
            self._point(_Pointer(champion=version, history=history[-_MAX_HISTORY:]))

    def rollback(self) -> str:
        """Return to the champion before this one and return its name. Raises `UnknownVersion` if there is none that loads."""
        pointer = self._pointer()
        history = list(pointer.history) if pointer else []
        while history:
            version = history.pop()
            with contextlib.suppress(UnknownVersion, IntegrityError):
                self.load(version)
                self._point(_Pointer(champion=version, history=tuple(history)))
                return version
        raise UnknownVersion(f"{self.directory}: no earlier champion to roll back to; `models` lists the versions that can be promoted")

    def collect(self, keep: int) -> tuple[str, ...]:
        """Delete all but the newest `keep` versions, never the champion or the one before it; return what was deleted."""
        pointer = self._pointer()
        kept = {*self._names()[:keep], *((pointer.champion, *pointer.history[-1:]) if pointer else ())}
        old = tuple(version for version in self._names() if version not in kept)
        for version in old:
            shutil.rmtree(self.directory / version)
        return old

    # --- reading

    def champion(self) -> str | None:
        """Return the name of the champion, or None. Does not load it."""
        pointer = self._pointer()
        return pointer.champion if pointer else None

    def versions(self) -> tuple[dict[str, Any], ...]:
        """Return a summary of every version, newest first; a damaged one has `error` instead of its facts."""
        champion = self.champion()
        return tuple({"version": name, "is_champion": name == champion, **self._summary(name)} for name in self._names())

    def _summary(self, version: str) -> dict[str, Any]:
        try:
            manifest = self.manifest(version)
        except (UnknownVersion, IntegrityError) as exc:
            return {"error": str(exc)}
        return {"number": manifest.number, "horizon_rows": manifest.horizon_rows, "window_rows": manifest.window_rows, **manifest.facts}

    def manifest(self, version: str) -> Manifest:
        """Return the manifest after checking its signature. Raises `UnknownVersion` or `IntegrityError`."""
        path = self._folder(version) / "manifest.json"
        try:
            manifest = msgspec.json.decode(_read(path, _MAX_MANIFEST_BYTES), type=Manifest)
        except msgspec.DecodeError as exc:
            raise IntegrityError(f"{path}: not a manifest ({exc}); roll back or retrain") from exc
        expected = _signature(msgspec.structs.replace(manifest, signature=""), self._key(create=False))
        if not hmac.compare_digest(manifest.signature, expected):
            raise IntegrityError(f"{path}: the signature does not hold: damaged, or made by another installation; roll back or retrain")
        if manifest.version != version:
            raise IntegrityError(f"{path}: names version {manifest.version}; roll back or retrain")
        return manifest

    def load(self, version: str) -> ModelBundle:
        """Load one version. Raises `UnknownVersion`, or `IntegrityError` before anything damaged is deserialised."""
        manifest = self.manifest(version)
        if manifest.schema_hash != SCHEMA_HASH:
            raise IntegrityError(f"{version}: made for features {manifest.schema_hash}, this program computes {SCHEMA_HASH}; retrain")
        if set(manifest.files) != set(FILES):
            raise IntegrityError(f"{version}: has the files {sorted(manifest.files)}, expected {sorted(FILES)}; retrain")
        files = {name: self._checked(version, name, facts) for name, facts in manifest.files.items()}
        return unpack(files, version)

    def load_champion(self) -> ModelBundle | None:
        """Load the champion; if it is damaged, the newest earlier champion that is sound; None if there is none.

        What was passed over stands in `refused`.
        """
        refused: list[Refused] = []
        self.refused = ()
        pointer = self._pointer(refused)
        for version in (pointer.champion, *reversed(pointer.history)) if pointer else ():
            try:
                bundle = self.load(version)
            except (UnknownVersion, IntegrityError) as exc:
                refused.append(Refused(version=version, reason=str(exc)))
                continue
            self.refused = tuple(refused)
            return bundle
        self.refused = tuple(refused)
        return None

    def _checked(self, version: str, name: str, facts: FileFacts) -> bytes:
        path = self._folder(version) / name
        content = _read(path, facts.bytes)
        if len(content) != facts.bytes or hashlib.sha256(content).hexdigest() != facts.sha256:
            raise IntegrityError(f"{path}: not the bytes that the manifest signed; roll back or retrain")
        return content

    # --- names, key, pointer

    def _names(self) -> list[str]:
        found = [path.name for path in self.directory.iterdir() if _VERSION.fullmatch(path.name)] if self.directory.is_dir() else []
        return sorted(found, key=_number, reverse=True)

    def _folder(self, version: str) -> Path:
        folder = self.directory / version
        if not _VERSION.fullmatch(version) or not folder.is_dir():
            raise UnknownVersion(f"{self.directory}: no version {version!r}; known: {', '.join(self._names()) or 'none'}")
        return folder

    def _key(self, *, create: bool) -> bytes:
        path = self.directory / ".key"
        if create and not path.exists():
            _write_synced(path.with_name(".new-key"), secrets.token_bytes(_KEY_BYTES))
            with contextlib.suppress(FileExistsError):  # another process made one first: theirs counts
                os.link(path.with_name(".new-key"), path)
            path.with_name(".new-key").unlink()
        key = _read(path, _KEY_BYTES)
        if len(key) != _KEY_BYTES or path.stat().st_mode & 0o077:
            raise IntegrityError(f"{path}: must have {_KEY_BYTES} bytes and mode 0600; without its key no stored version can be trusted")
        return key

    def _pointer(self, refused: list[Refused] | None = None) -> _Pointer | None:
        for name in ("champion.json", "champion.previous.json"):
            path = self.directory / name
            if not path.exists():
                continue
            try:
                return msgspec.json.decode(_read(path, _MAX_MANIFEST_BYTES), type=_Pointer)
            except (msgspec.DecodeError, IntegrityError) as exc:
                if refused is not None:
                    refused.append(Refused(version=name, reason=str(exc)))
        return None

    def _point(self, pointer: _Pointer) -> None:
        path = self.directory / "champion.json"
        if path.exists():
            _replace(self.directory / "champion.previous.json", path.read_bytes())
        _replace(path, msgspec.json.encode(pointer))

    def _sweep(self) -> None:
        for leftover in self.directory.glob(".new-v*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _number(version: str) -> int:
    match = _VERSION.fullmatch(version)
    return int(match.group(1)) if match else 0


def _signature(manifest: Manifest, key: bytes) -> str:
    canonical = msgspec.json.encode(msgspec.json.decode(msgspec.json.encode(manifest)), order="deterministic")
    return hmac.new(key, canonical, hashlib.sha256).hexdigest()


def _read(path: Path, most: int) -> bytes:
    """Read a file whole, at most one byte more than allowed. Raises `IntegrityError` if it is not there."""
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as exc:
        raise IntegrityError(f"{path}: cannot be read ({exc.strerror}); roll back or retrain") from exc


def _write_synced(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".new-{path.name}")
    _write_synced(temporary, content)
    os.replace(temporary, path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
