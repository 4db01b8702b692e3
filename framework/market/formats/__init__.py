"""One file per source of recorded market data, and the door that finds out which one a path is."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from framework.errors import ConfigError, IntegrityError
from framework.market.feed import ReplayFeed
from framework.market.formats import binance, bybit, pcap, sgx, sierra_dom
from framework.market.formats.columns import Header
from framework.market.formats.databento import DatabentoSource, Definition, read_definitions
from framework.market.formats.layouts import find_layout
from framework.market.formats.lines import BROKEN, damaged, head_of
from framework.market.formats.lobster import LobsterSource
from framework.market.formats.lobster import is_name as is_lobster_name
from framework.market.formats.mapping import TableMapping
from framework.market.formats.mdp3 import Mdp3Source
from framework.market.formats.recording import RecordingSource
from framework.market.formats.shfe import ShfeSource, is_layout
from framework.market.formats.source import Source, make_feed
from framework.market.formats.table import TableSource
from framework.market.formats.tardis import TardisBookSource, is_incremental
from framework.model import Instrument
from framework.strict_yaml import load

ALLOWED: Final = (
    "allowed are recordings made by --record (their directory), SHFE snapshots (Parquet), Databento DBN, LOBSTER (the zip, or one CSV of "
    "the pair), Binance streams and archives, Bybit order books, Tardis CSV, SGX states, Sierra Chart trades with depth, CME packet "
    "captures (feeds A and B), exported bars, and any CSV with a mapping file (NAME.csv.yaml beside it); plain, gzip, zstd, xz or zip"
)
_PARQUET: Final = b"PAR1"
_ZIP: Final = b"PK\x03\x04"
_DBN: Final = b"DBN"


def open_feed(paths: Sequence[Path], *, book_interval_ns: int = 0) -> ReplayFeed:
    """Open recorded files and directories as one feed; what a path is, its content says, not its name.

    Files of one instrument follow each other in time, those of different ones are merged. `book_interval_ns` thins out
    market by order. Raises `ConfigError` (names the path, what was found and what is allowed) or `IntegrityError`.
    """
    if not paths:
        raise ConfigError(f"no recording to replay: name at least one path; {ALLOWED}")
    return make_feed(open_sources(paths, book_interval_ns=book_interval_ns))


def open_sources(paths: Sequence[Path], *, book_interval_ns: int = 0, mapping: Path | None = None) -> list[Source]:
    """Open each of `paths`; Databento definitions among them tell about the instruments of the others. Raises as `open_source`."""
    sources, _ = read_all(paths, book_interval_ns=book_interval_ns, mapping=mapping)
    if not sources:
        raise ConfigError(f"{paths[0]}: holds definitions only; name the market data too")
    return sources


def read_all(
    paths: Sequence[Path], *, book_interval_ns: int = 0, mapping: Path | None = None
) -> tuple[list[Source], tuple[Definition, ...]]:
    """Open each of `paths`, and return the definitions among them beside the sources. Raises as `open_source`."""
    found: dict[str, Definition] = {}
    others = []
    for path in paths:
        definitions = read_definitions(path) if _is_dbn(path) else None
        if definitions is None:
            others.append(path)
        else:
            found |= definitions
    defined = {name: one.instrument for name, one in found.items()}
    captures = [path for path in others if _is_capture(path)]
    # Two captures are both feeds of one channel.
    joined: list[Source] = [Mdp3Source(captures)] if captures else []
    rest = [path for path in others if path not in captures]
    joined += [open_source(path, book_interval_ns=book_interval_ns, mapping=mapping, definitions=defined) for path in rest]
    return joined, tuple(found.values())


def open_source(
    path: Path,
    *,
    book_interval_ns: int = 0,
    mapping: Path | None = None,
    definitions: Mapping[str, Instrument] = MappingProxyType({}),
) -> Source:
    """Open one recorded file or directory; a CSV by `mapping`, or by the file NAME.yaml beside it.

    `definitions` (by `SYMBOL.VENUE`) tell about the instruments of Databento files. Raises `ConfigError` or `IntegrityError`.
    """
    if path.is_dir():
        return RecordingSource(path)
    magic = _magic(path)
    if magic == _PARQUET:
        return _open_parquet(path)
    if is_lobster_name(path.name) or (magic == _ZIP and _is_pair(path)):
        return LobsterSource(path)
    written = mapping or path.with_name(f"{path.name}.yaml")
    if written.is_file() or mapping is not None:
        return TableSource(path, load(written, TableMapping))
    head = head_of(path)
    if head.startswith(_DBN):
        return DatabentoSource(path, book_interval_ns=book_interval_ns, definitions=definitions)
    return _open_text(path, head)


def _open_text(path: Path, head: bytes) -> Source:
    for is_head, opener in _BY_HEAD:
        if is_head(head):
            return opener(path)
    layout = find_layout(path, head)
    if layout is not None:
        return layout(path, Header.of(head), head)
    if is_incremental(Header.of(head).names):
        return TardisBookSource(path)
    found = f"begins with {head[:40]!r}" if head else "is empty"
    raise ConfigError(f"{path}: {found}, which is no recording; {ALLOWED}")


_BY_HEAD: Final[tuple[tuple[Callable[[bytes], bool], Callable[[Path], Source]], ...]] = (
    (pcap.is_head, lambda path: Mdp3Source([path])),
    (binance.is_head, binance.BinanceSource),
    (bybit.is_head, bybit.BybitSource),
    (sgx.is_head, sgx.SgxSource),
    (sierra_dom.is_head, sierra_dom.SierraDomSource),
)


def _is_dbn(path: Path) -> bool:
    return not path.is_dir() and _magic(path) not in (_PARQUET, _ZIP) and head_of(path).startswith(_DBN)


def _is_capture(path: Path) -> bool:
    return not path.is_dir() and _magic(path) not in (_PARQUET, _ZIP) and pcap.is_head(head_of(path))


def _magic(path: Path) -> bytes:
    if not path.exists():
        raise ConfigError(f"{path}: does not exist; {ALLOWED}")
    if not path.is_file():
        raise ConfigError(f"{path}: is neither a file nor a directory; {ALLOWED}")
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc


def _is_pair(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(is_lobster_name(Path(name).name) for name in archive.namelist())
    except BROKEN as exc:
        raise damaged(path, exc) from exc


def _open_parquet(path: Path) -> Source:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise IntegrityError(f"{path}: a cut or damaged Parquet file: {str(exc)[:200]}") from exc
    if is_layout(schema.names):
        return ShfeSource(path)
    if b"tidebook_recording" in (schema.metadata or {}):
        raise ConfigError(f"{path}: is one part of a recording; name its directory, {path.parent}")
    columns = ", ".join(schema.names[:8])
    raise ConfigError(f"{path}: a Parquet file of another layout (columns {columns[:200]}, ...); {ALLOWED}")
