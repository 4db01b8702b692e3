"""Records of Databento files as NumPy arrays: the layouts that all versions of the encoding share, read block by block.

Layouts: Databento Binary Encoding, records MBO, MBP-1, MBP-10, Trade and OHLCV. The metadata in front of them, and definitions,
which differ between versions, are left to the vendor's library.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from framework.errors import ConfigError, IntegrityError
from framework.market.formats.lines import PlainBytes

Records = npt.NDArray[Any]
Fields = list[tuple[Any, ...]]

_HEAD: Final[Fields] = [("length", "u1"), ("rtype", "u1"), ("publisher", "<u2"), ("instrument_id", "<u4"), ("ts_event", "<u8")]
_TRADE: Final[Fields] = [
    *_HEAD, ("price", "<i8"), ("size", "<u4"), ("action", "S1"), ("side", "S1"), ("flags", "u1"), ("depth", "u1"), ("ts_recv", "<u8"),
    ("ts_in_delta", "<i4"), ("sequence", "<u4"),
]  # fmt: skip
_LEVEL: Final[Fields] = [
    ("bid_px", "<i8"), ("ask_px", "<i8"), ("bid_sz", "<u4"), ("ask_sz", "<u4"), ("bid_ct", "<u4"), ("ask_ct", "<u4"),
]  # fmt: skip
MBO: Final = np.dtype([
    *_HEAD, ("order_id", "<u8"), ("price", "<i8"), ("size", "<u4"), ("flags", "u1"), ("channel", "u1"), ("action", "S1"), ("side", "S1"),
    ("ts_recv", "<u8"), ("ts_in_delta", "<i4"), ("sequence", "<u4"),
])  # fmt: skip
TRADES: Final = np.dtype(_TRADE)
MBP_1: Final = np.dtype([*_TRADE, ("levels", _LEVEL, (1,))])
MBP_10: Final = np.dtype([*_TRADE, ("levels", _LEVEL, (10,))])
OHLCV: Final = np.dtype([*_HEAD, *((name, "<i8") for name in ("open", "high", "low", "close")), ("volume", "<u8")])

LAYOUTS: Final = {
    "mbo": (160, MBO), "mbp-1": (1, MBP_1), "mbp-10": (10, MBP_10), "trades": (0, TRADES), "ohlcv-1s": (32, OHLCV), "ohlcv-1m": (33, OHLCV),
    "ohlcv-1h": (34, OHLCV), "ohlcv-1d": (35, OHLCV),
}  # fmt: skip
"""Record type and layout of each schema that is replayed."""

_MIN_LENGTH: Final = 4
"""The shortest record is its head of 16 bytes; lengths count 4 bytes."""


class DbnFile:
    """One DBN file: its metadata (the library's) and its records. Raises `ConfigError` or `IntegrityError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.share = 0.0
        self._library = load_library()
        with PlainBytes(path) as content:
            head = content.read(8)
            self._length = int.from_bytes(head[4:8], "little")
            if len(head) < 8 or not 0 < self._length <= 64 << 20:
                raise IntegrityError(f"{path}: ends in the middle of a record; fetch it again")
            self.metadata = self._decode_metadata(head + content.read_exactly(self._length))
        self.schema = str(self.metadata.schema)

    def records(self, rtype: int, layout: np.dtype[Any]) -> Iterator[Records]:
        """Yield the records of one type in blocks, in the order of the file; others are passed over."""
        rest = b""
        with PlainBytes(self.path) as content:
            content.read_exactly(8 + self._length)
            for block in content.blocks():
                whole, rest = self._whole(rest + block, rtype, layout)
                self.share = content.share
                if len(whole):
                    yield whole
        if rest:
            raise IntegrityError(f"{self.path}: ends in the middle of a record; fetch it again")
        self.share = 1.0

    def definitions(self) -> Iterator[Any]:
        """Yield definition records, as the library reads them."""
        decoder = self._library.DBNDecoder()
        with PlainBytes(self.path) as content:
            for block in content.blocks():
                found = self._guarded(lambda raw=block: (decoder.write(raw), decoder.decode())[1])
                yield from (one for one in found if hasattr(one, "raw_symbol"))

    def _whole(self, raw: bytes, rtype: int, layout: np.dtype[Any]) -> tuple[Records, bytes]:
        size = layout.itemsize
        count = len(raw) // size
        block = np.frombuffer(raw, layout, count)
        if bool((block["length"] == size // 4).all() and (block["rtype"] == rtype).all()):
            return block, raw[count * size :]
        return self._picked(raw, rtype, layout)

    def _picked(self, raw: bytes, rtype: int, layout: np.dtype[Any]) -> tuple[Records, bytes]:
        """Return the records of one type among others, walking from length to length."""
        kept = []
        at, end = 0, len(raw)
        while at < end and at + raw[at] * 4 <= end:
            length = raw[at] * 4
            if raw[at] < _MIN_LENGTH or (raw[at + 1] == rtype and length < layout.itemsize):
                raise IntegrityError(f"{self.path}: cut or damaged: a record of {length} bytes; fetch it again")
            if raw[at + 1] == rtype:
                kept.append(raw[at : at + layout.itemsize])
            at += length
        return np.frombuffer(b"".join(kept), layout), raw[at:]

    def _decode_metadata(self, raw: bytes) -> Any:
        decoder = self._library.DBNDecoder()
        found = self._guarded(lambda: (decoder.write(raw), decoder.decode())[1])
        if not found:
            raise IntegrityError(f"{self.path}: cut or damaged: no metadata; fetch it again")
        return found[0]

    def _guarded(self, decode: Any) -> list[Any]:
        library = self._library
        try:
            return decode()  # type: ignore[no-any-return]
        except (library.DBNError, ValueError, OverflowError, RuntimeError) as exc:
            raise IntegrityError(f"{self.path}: cut or damaged: {str(exc)[:200]}") from exc
        # The decoder is Rust; for some damaged lengths it panics, which arrives here past `Exception` and has no importable type.
        except BaseException as exc:
            if type(exc).__name__ != "PanicException":
                raise
            raise IntegrityError(f"{self.path}: cut or damaged: {str(exc)[:200]}") from exc


def load_library() -> Any:
    """Return the vendor's library. Raises `ConfigError` where the optional extra is not installed."""
    # The one entry of this optional extra.
    try:
        import databento_dbn
    except ImportError as exc:
        raise ConfigError("reading DBN files needs the databento extra: pip install 'tidebook[databento]'") from exc
    return databento_dbn
