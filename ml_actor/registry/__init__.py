"""The registry of model versions: written whole or not at all, checked before anything is loaded, rolled back by a pointer.

    models/
      .key                      32 bytes, mode 0600: versions signed by another installation are refused
      v0003-1a2b3c4d/           manifest.json (facts, SHA-256 and size of each file, HMAC-SHA256) and the files of `artifacts`
      champion.json             who serves, who is on trial, what is kept (`Standing`), replaced atomically
      champion.previous.json    the pointer before that
      decisions.jsonl           every decision: who, why, on what evidence, when

Reading: signature, then hash of each file, then those same bytes are loaded, then golden windows must be reproduced. Nothing
stored can execute: arrays without pickles only, no joblib, no skops, so no list of trusted types is needed.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.errors import IntegrityError, TidebookError
from ml_actor.artifacts import FILES, unpack
from ml_actor.features.catalogue import SCHEMA_HASH
from ml_actor.models import ModelBundle
from ml_actor.registry.durable import read_at_most, sync_directory, write_synced
from ml_actor.registry.manifest import (
    MAX_MANIFEST_BYTES,
    VERSION,
    FileFacts,
    Manifest,
    UnknownVersion,
    facts_of,
    identity,
    installation_key,
    number_of,
    signature,
)
from ml_actor.registry.standing import Decision, Refused, Standing, StandingFile

__all__ = ["Decision", "FileFacts", "Manifest", "Pinned", "Refused", "Registry", "Standing", "UnknownVersion"]

OPERATOR: Final = "operator"


class Pinned(TidebookError):
    """The champion is pinned: only an operator may replace it."""


class Registry:
    """Versions in one directory. One process saves and one decides at a time; any number may read.

    Nothing suspends; files are read whole. `refused` lists what the last `load_champion` could not load. `wall_ns` stamps
    decisions.
    """

    def __init__(self, directory: str | Path, *, wall_ns: Callable[[], int] = lambda: 0) -> None:
        self.directory = Path(directory)
        self.refused: tuple[Refused, ...] = ()
        self._wall_ns = wall_ns
        self._standing = StandingFile(self.directory)

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
        digests = {name: facts_of(content) for name, content in files.items()}
        number = 1 + self._highest()
        manifest = Manifest(
            version=f"v{number:04d}-{identity(digests)}",
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
        signed = msgspec.structs.replace(manifest, signature=signature(manifest, installation_key(self.directory, create=True)))
        temporary = self.directory / f".new-{manifest.version}"
        temporary.mkdir(mode=0o700)
        for name, content in files.items():
            write_synced(temporary / name, content)
        write_synced(temporary / "manifest.json", msgspec.json.format(msgspec.json.encode(signed), indent=1))
        sync_directory(temporary)
        os.rename(temporary, self.directory / manifest.version)
        sync_directory(self.directory)

    def collect(self, keep: int) -> tuple[str, ...]:
        """Delete all but the newest `keep` versions and the protected ones (`Standing.protected`); return what was deleted."""
        names = self._names()
        kept = {*names[:keep], *self.standing().protected}
        old = tuple(version for version in names if version not in kept)
        for version in old:
            # Out of sight first: a version that is half deleted would look like a damaged one.
            os.rename(self.directory / version, self.directory / f".old-{version}")
            shutil.rmtree(self.directory / f".old-{version}")
        return old

    # --- deciding

    def promote(self, version: str, *, by: str = OPERATOR, reason: str = "", evidence: dict[str, Any] | None = None) -> None:
        """Make `version` the champion, after loading it once. The old one stays if this raises.

        Raises `UnknownVersion`, `IntegrityError`, or `Pinned` when another than the operator replaces a pinned champion.
        """
        self.load(version)
        standing = self.standing()
        if by != OPERATOR and standing.champion in standing.pinned and standing.champion != version:
            raise Pinned(f"{standing.champion} is pinned: unpin it, or promote {version} by hand")
        if standing.champion != version:
            self._decide(standing.crowned(version), "promoted", version, by=by, reason=reason, evidence=evidence)

    def rollback(self, *, by: str = OPERATOR, reason: str = "") -> str:
        """Return to the champion before this one and return its name. Raises `UnknownVersion` if there is none that loads."""
        standing = self.standing()
        history = list(standing.history)
        while history:
            version = history.pop()
            with contextlib.suppress(UnknownVersion, IntegrityError):
                self.load(version)
                self._decide(
                    msgspec.structs.replace(standing, champion=version, history=tuple(history)),
                    "rolled back",
                    version,
                    by=by,
                    reason=reason,
                )
                return version
        raise UnknownVersion(f"{self.directory}: no earlier champion to roll back to; `models` lists the versions that can be promoted")

    def challenge(self, version: str, *, by: str, reason: str = "", evidence: dict[str, Any] | None = None) -> None:
        """Put `version` on trial against the champion. Raises as `load` does."""
        self.load(version)
        standing = self.standing()
        challengers = (*(name for name in standing.challengers if name != version), version)
        self._decide(
            msgspec.structs.replace(standing, challengers=challengers), "on trial", version, by=by, reason=reason, evidence=evidence
        )

    def refuse(self, version: str, *, by: str, reason: str, evidence: dict[str, Any] | None = None) -> None:
        """Note that `version` does not become the champion; it is no longer on trial."""
        standing = self.standing()
        challengers = tuple(name for name in standing.challengers if name != version)
        self._decide(
            msgspec.structs.replace(standing, challengers=challengers), "refused", version, by=by, reason=reason, evidence=evidence
        )

    def pin(self, version: str, *, by: str = OPERATOR, reason: str = "") -> None:
        """Keep `version` for ever; if it is the champion, no gate and no trial replaces it. Raises `UnknownVersion`."""
        self._folder(version)
        standing = self.standing()
        if version not in standing.pinned:
            self._decide(msgspec.structs.replace(standing, pinned=(*standing.pinned, version)), "pinned", version, by=by, reason=reason)

    def unpin(self, version: str, *, by: str = OPERATOR, reason: str = "") -> None:
        """Take the pin off. Raises `UnknownVersion` for a version that is not pinned."""
        standing = self.standing()
        if version not in standing.pinned:
            raise UnknownVersion(f"{version} is not pinned; pinned: {', '.join(standing.pinned) or 'none'}")
        pinned = tuple(name for name in standing.pinned if name != version)
        self._decide(msgspec.structs.replace(standing, pinned=pinned), "unpinned", version, by=by, reason=reason)

    def _decide(self, standing: Standing, act: str, version: str, *, by: str, reason: str, evidence: dict[str, Any] | None = None) -> None:
        decision = Decision(
            number=0,
            act=act,
            version=version,
            by=by,
            reason=reason,
            at_ns=self._wall_ns(),
            champion=standing.champion,
            before=self.standing().champion,
            evidence=evidence or {},
        )
        self._standing.write(standing, decision)

    # --- reading

    def standing(self) -> Standing:
        """Return who serves, who is on trial and what is pinned."""
        return self._standing.read()

    def decisions(self) -> tuple[Decision, ...]:
        """Return every decision ever made here, oldest first."""
        return self._standing.decisions()

    def champion(self) -> str | None:
        """Return the name of the champion, or None. Does not load it."""
        return self.standing().champion or None

    def versions(self) -> tuple[dict[str, Any], ...]:
        """Return a summary of every version, newest first; a damaged one has an `error`, and no facts where its manifest is not sound."""
        standing = self.standing()
        return tuple({"version": name, **_place(name, standing), **self._summary(name)} for name in self._names())

    def newest_facts(self) -> dict[str, Any]:
        """Return what the manifest of the newest version says, whatever state its files are in; nothing where there is no sound one."""
        name = next(iter(self._names()), None)
        try:
            return self.manifest(name).facts if name is not None else {}
        except (UnknownVersion, IntegrityError):
            return {}

    def _summary(self, version: str) -> dict[str, Any]:
        try:
            manifest = self.manifest(version)
        except (UnknownVersion, IntegrityError) as exc:
            return {"error": str(exc)}
        known = {"number": manifest.number, "horizon_rows": manifest.horizon_rows, "window_rows": manifest.window_rows, **manifest.facts}
        try:
            for name, facts in manifest.files.items():
                self._checked(version, name, facts)
        except IntegrityError as exc:
            return known | {"error": str(exc)}
        return known

    def manifest(self, version: str) -> Manifest:
        """Return the manifest after checking its signature. Raises `UnknownVersion` or `IntegrityError`."""
        path = self._folder(version) / "manifest.json"
        try:
            manifest = msgspec.json.decode(read_at_most(path, MAX_MANIFEST_BYTES), type=Manifest)
        except msgspec.DecodeError as exc:
            raise IntegrityError(f"{path}: not a manifest ({exc}); roll back or retrain") from exc
        expected = signature(manifest, installation_key(self.directory, create=False))
        if not hmac.compare_digest(manifest.signature.encode(), expected.encode()):
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
        standing = self._standing.read(refused)
        found = None
        for version in (standing.champion, *reversed(standing.history)) if standing.champion else ():
            try:
                found = self.load(version)
                break
            except (UnknownVersion, IntegrityError) as exc:
                refused.append(Refused(version=version, reason=str(exc)))
        self.refused = tuple(refused)
        return found

    def _checked(self, version: str, name: str, facts: FileFacts) -> bytes:
        path = self._folder(version) / name
        content = read_at_most(path, facts.bytes)
        if facts_of(content) != facts:
            raise IntegrityError(f"{path}: not the bytes that the manifest signed; roll back or retrain")
        return content

    # --- names

    def _names(self) -> list[str]:
        found = [path.name for path in self.directory.iterdir() if VERSION.fullmatch(path.name)] if self.directory.is_dir() else []
        return sorted(found, key=number_of, reverse=True)

    def _highest(self) -> int:
        """Return the highest number that was ever given away as far as anything here remembers: none is given twice."""
        standing = self.standing()
        remembered = (standing.champion, *standing.history, *(decision.version for decision in self.decisions()))
        return max(map(number_of, (*self._names(), *remembered)), default=0)

    def _folder(self, version: str) -> Path:
        folder = self.directory / version
        if not VERSION.fullmatch(version) or not folder.is_dir():
            raise UnknownVersion(f"{self.directory}: no version {version!r}; known: {', '.join(self._names()) or 'none'}")
        return folder

    def _sweep(self) -> None:
        for leftover in (*self.directory.glob(".new-v*"), *self.directory.glob(".old-v*")):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _place(version: str, standing: Standing) -> dict[str, Any]:
    return {
        "is_champion": version == standing.champion,
        "is_challenger": version in standing.challengers,
        "is_pinned": version in standing.pinned,
    }
