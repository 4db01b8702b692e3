"""Parquet files that are written whole, and the manifest that says which of them count."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from framework.errors import IntegrityError, StorageError

MANIFEST: Final = "_manifest.json"
MAX_PART_BYTES: Final = 256 << 20
MAX_MANIFEST_BYTES: Final = 64 << 20


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One sealed file: its rows are numbers `first_total` to `first_total + rows` of everything ever appended."""

    name: str
    instrument_id: str
    first_total: int
    rows: int
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What counts in a directory. `kind` says what the rows are, `schema` which columns they have."""

    kind: str
    schema: str
    total_rows: int = 0
    next_segment: int = 0
    parts: tuple[Part, ...] = ()


class _Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest on disk: the checksum is over the manifest's own encoding."""

    manifest: msgspec.Raw
    sha256: str


class DamagedPart(Exception):
    """A part that must not be used; the text is the reason."""


def write_part(table: pa.Table, path: Path) -> tuple[int, str]:
    """Write `table` whole (temporary name, page checksums, fsync, rename); return its bytes and SHA-256.

    Blocks on the disk. Raises `StorageError`; then nothing is left under `path`'s name.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    content = sink.getvalue().to_pybytes()
    replace_file(path, content)
    return len(content), hashlib.sha256(content).hexdigest()


def read_part(directory: Path, part: Part) -> pa.Table:
    """Return the rows of `part`, after its bytes were compared with the manifest. Raises `DamagedPart`."""
    content = _read_checked(directory / part.name, part)
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        if file.metadata.num_rows != part.rows:
            raise DamagedPart(f"holds {file.metadata.num_rows} rows, the manifest says {part.rows}")
        return file.read()
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise DamagedPart(f"is no readable Parquet file: {first_line(exc)}") from exc


def _read_checked(path: Path, part: Part) -> bytes:
    if Path(part.name).name != part.name or path.is_symlink():
        raise DamagedPart("is not a plain file of the directory")
    try:
        found_bytes = path.stat().st_size
        if found_bytes != part.bytes or found_bytes > MAX_PART_BYTES:
            raise DamagedPart(f"has {found_bytes} bytes, the manifest says {part.bytes}")
        content = path.read_bytes()
    except FileNotFoundError as exc:
        raise DamagedPart("is missing") from exc
    except OSError as exc:
        raise DamagedPart(f"cannot be read: {exc.strerror}") from exc
    if hashlib.sha256(content).hexdigest() != part.sha256:
        raise DamagedPart("does not match its SHA-256 in the manifest")
    return content


def read_manifest(directory: Path) -> Manifest | None:
    """Return the manifest, or None if there is none. Raises `IntegrityError` if it is damaged."""
    path = directory / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise IntegrityError(f"{path}: larger than {MAX_MANIFEST_BYTES} bytes; {_WAY_OUT}")
        sealed = msgspec.json.decode(path.read_bytes(), type=_Sealed)
        manifest = msgspec.json.decode(sealed.manifest, type=Manifest)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise IntegrityError(f"{path}: not a manifest ({exc}); {_WAY_OUT}") from exc
    if hashlib.sha256(sealed.manifest).hexdigest() != sealed.sha256:
        raise IntegrityError(f"{path}: does not match its own checksum; {_WAY_OUT}")
    if len({part.name for part in manifest.parts}) != len(manifest.parts):
        raise IntegrityError(f"{path}: lists a part twice; {_WAY_OUT}")
    return manifest


_WAY_OUT: Final = "restore it, or move the directory away to begin a new one"


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest atomically. Raises `StorageError`."""
    raw = msgspec.json.encode(manifest)
    sealed = _Sealed(manifest=msgspec.Raw(raw), sha256=hashlib.sha256(raw).hexdigest())
    replace_file(directory / MANIFEST, msgspec.json.encode(sealed))


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` under `path` so that a reader sees the old file or the whole new one. Raises `StorageError`."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as exc:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written: {exc.strerror}; free space or choose another directory") from exc


def sync_directory(directory: Path) -> None:
    """Wait until the names in `directory` are on the disk. Raises `OSError`."""
    # Without it the rename may be lost with the power, while what is written afterwards is not.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def first_line(exc: Exception) -> str:
    """Return the first line of a foreign error, shortened to 200 characters."""
    return (str(exc).splitlines() or [type(exc).__name__])[0][:200]
