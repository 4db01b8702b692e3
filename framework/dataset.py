"""The training dataset: the directory `training_data.parquet/` that the trading process appends to and training reads.

Layout (any Parquet reader opens the directory; names that start with a dot or underscore are skipped by readers):

    training_data.parquet/
      part-<first total>-<instrument>.parquet   sealed rows, written whole: temporary name, page checksums, fsync, rename
      _manifest.json                            what counts: per part its rows, bytes and SHA-256 (replaced atomically)
      _tail.arrow                               rows since the last part (crash-safe; sealed into a part at the next start)
"""
