"""The training dataset: the directory `training_data.parquet/` that the trading process appends to and training reads.

Layout (any Parquet reader opens the directory; names that start with a dot or underscore are skipped by readers):

    training_data.parquet/
      part-<first total>-<instrument>.parquet   sealed rows, written whole: temporary name, page checksums, fsync, rename
      _manifest.json                            what counts: per part its rows, bytes and SHA-256 (replaced atomically)
      _tail.bin                                 rows since the last part (length and CRC before each record; sealed at the next start)

Order of a seal: parts, then the manifest, then an empty tail. A process that dies in between loses nothing and counts nothing twice:
a part that no manifest lists is written again under the same name, a tail that the manifest has overtaken is discarded.
"""

from __future__ import annotations

from framework.dataset.background import BackgroundDatasetWriter
from framework.dataset.reader import DatasetRead, InstrumentRows, RefusedPart, read_dataset
from framework.dataset.writer import DatasetWriter

__all__ = [
    "BackgroundDatasetWriter",
    "DatasetRead",
    "DatasetWriter",
    "InstrumentRows",
    "RefusedPart",
    "read_dataset",
]
