"""Databento DBN files (optional extra `databento`): market by order, market by price, trades."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from framework.errors import ConfigError, IntegrityError
from framework.market.formats.databento_streams import SNAPSHOT, STREAMS, received_ns_of
from framework.market.formats.definitions import find_instrument
from framework.messages import MarketEvent
from framework.model import Instrument

READ_BYTES: Final = 256 << 10
SCHEMAS: Final = {"mbo": "MBOMsg", "mbp-1": "MBP1Msg", "mbp-10": "MBP10Msg", "trades": "TradeMsg"}
"""Class of the records of each schema; others that turn up in a file (system messages) are passed over."""


class DatabentoSource:
    """One DBN file, plain or zstd. Opening reads it once, from end to end, so that a damaged file is refused before anything starts.

    `book_interval_ns` conflates books of market by order: at most one per interval (0: one per event that changed the visible
    levels). Raises `ConfigError` (extra not installed, schema or symbol not known) or `IntegrityError` (damaged).
    """

    def __init__(self, path: Path, *, book_interval_ns: int = 0) -> None:
        self.path = path
        self.read_share = 0.0
        self.next_sequence = 0
        self._book_interval_ns = book_interval_ns
        self._library = _load_library()
        self._record_count = 0
        self._scan()

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield trades as they come and books at the ends of events, numbered from `first_sequence`."""
        streams = {
            number: STREAMS[self._schema](instrument, self._book_interval_ns, self.path)
            for number, instrument in self._instruments_by_number.items()
        }
        read = 0
        self.next_sequence = first_sequence
        for records in self._chunks():
            for record in records:
                stream = streams.get(record.instrument_id) if type(record) is self._record_type else None
                if stream is not None:
                    for event in stream.take(record, self.next_sequence):
                        self.next_sequence += 1
                        yield event
            read += len(records)
            self.read_share = min(1.0, read / self._record_count)

    def _scan(self) -> None:
        times: list[int] = []
        for number, records in enumerate(self._chunks()):
            if number == 0:
                self._read_metadata(records[0])
            self._record_count += len(records)
            own = [record for record in records if type(record) is self._record_type and not record.flags & SNAPSHOT]
            times += [received_ns_of(own[0]), received_ns_of(own[-1])] if own else []
        if not times:
            raise ConfigError(f"{self.path}: holds no records of schema {self._schema} beyond its snapshot")
        if times != sorted(times):
            raise ConfigError(f"{self.path}: records are not in order of ts_recv; sort the file")
        self.start_ns, self.end_ns = times[0], times[-1]

    def _read_metadata(self, metadata: Any) -> None:
        self._schema = str(metadata.schema)
        if self._schema not in SCHEMAS:
            raise ConfigError(f"{self.path}: schema {self._schema!r} is not replayed, allowed are {', '.join(SCHEMAS)}")
        self._record_type = getattr(self._library, SCHEMAS[self._schema])
        venue = metadata.dataset.partition(".")[0] or "DBN"
        self._instruments_by_number: dict[int, Instrument] = {}
        for symbol, intervals in metadata.mappings.items():
            instrument = find_instrument(symbol, venue, self.path)
            self._instruments_by_number |= {int(one["symbol"]): instrument for one in intervals if one["symbol"].isdecimal()}
        if not self._instruments_by_number:
            raise ConfigError(f"{self.path}: maps no symbol to an instrument id; request it with `stype_out` instrument_id")
        self.instruments = tuple(dict.fromkeys(self._instruments_by_number.values()))

    def _chunks(self) -> Iterator[list[Any]]:
        """Yield records in chunks, in the first one behind the metadata. Raises `IntegrityError` for a damaged or cut file."""
        library = self._library
        decoder = library.DBNDecoder()
        try:
            for raw in _plain_bytes(self.path):
                decoder.write(raw)
                if records := decoder.decode():
                    yield records
        except (library.DBNError, ValueError, OverflowError, RuntimeError, OSError, pa.ArrowException) as exc:
            raise IntegrityError(f"{self.path}: cut or damaged: {str(exc)[:200]}") from exc
        # The decoder is Rust; for some damaged lengths it panics, which arrives here past `Exception` and has no importable type.
        except BaseException as exc:
            if type(exc).__name__ != "PanicException":
                raise
            raise IntegrityError(f"{self.path}: cut or damaged: {str(exc)[:200]}") from exc
        if decoder.buffer():
            raise IntegrityError(f"{self.path}: ends in the middle of a record; fetch it again")


def _plain_bytes(path: Path) -> Iterator[bytes]:
    # Arrow's zstd reader says when a stream ends before its end; the one inside the DBN decoder does not.
    with pa.OSFile(str(path)) as file:
        is_plain = file.read(3) == b"DBN"
        file.seek(0)
        stream = file if is_plain else pa.CompressedInputStream(file, "zstd")
        while raw := stream.read(READ_BYTES):
            yield raw


def _load_library() -> Any:
    # The one entry of this optional extra.
    try:
        import databento_dbn
    except ImportError as exc:
        raise ConfigError("reading DBN files needs the databento extra: pip install 'tidebook[databento]'") from exc
    return databento_dbn
