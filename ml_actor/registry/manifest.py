"""What a version is, signed by the key of this installation."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.errors import IntegrityError, TidebookError
from ml_actor.registry.durable import read_at_most, write_synced

VERSION: Final = re.compile(r"v(\d{4,9})-[0-9a-f]{8}")
MAX_MANIFEST_BYTES: Final = 4 << 20
_KEY_BYTES: Final = 32


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


def facts_of(content: bytes) -> FileFacts:
    """Return the facts of a file with this content."""
    return FileFacts(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def number_of(version: str) -> int:
    """Return the number in a version's name; 0 for a name that is none."""
    match = VERSION.fullmatch(version)
    return int(match.group(1)) if match else 0


def identity(files: dict[str, FileFacts]) -> str:
    """Return eight hex digits that name this set of files."""
    return hashlib.sha256(repr(sorted((name, file.sha256) for name, file in files.items())).encode()).hexdigest()[:8]


def signature(manifest: Manifest, key: bytes) -> str:
    """Return the HMAC-SHA256 of a manifest without its signature."""
    unsigned = msgspec.structs.replace(manifest, signature="")
    canonical = msgspec.json.encode(msgspec.json.decode(msgspec.json.encode(unsigned)), order="deterministic")
    return hmac.new(key, canonical, hashlib.sha256).hexdigest()


def installation_key(directory: Path, *, create: bool) -> bytes:
    """Return the key in `directory`; `create` makes one if there is none. Raises `IntegrityError` if it is not ours alone."""
    path = directory / ".key"
    if create and not path.exists():
        write_synced(path.with_name(".new-key"), secrets.token_bytes(_KEY_BYTES))
        with contextlib.suppress(FileExistsError):  # another process made one first: theirs counts
            os.link(path.with_name(".new-key"), path)
        path.with_name(".new-key").unlink()
    key = read_at_most(path, _KEY_BYTES)
    if len(key) != _KEY_BYTES or path.stat().st_mode & 0o077:
        raise IntegrityError(f"{path}: must have {_KEY_BYTES} bytes and mode 0600; without its key no stored version can be trusted")
    return key
