"""Files that are elsewhere: a name such as `s3://bucket/day.parquet` is fetched through fsspec; any other is a path, as it is.

A `Path` folds the two slashes of such a name into one (`s3:/bucket/day.parquet`); here they come back. A file of that very
name in the current folder is that file.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, Final

from framework.errors import ConfigError, StorageError
from framework.logs import foreign

_REMOTE: Final = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)")
_CHUNK_BYTES: Final = 1 << 20


def remote_name(path: Path) -> str | None:
    """Return the name with both slashes if the file is elsewhere, else None."""
    match = _REMOTE.fullmatch(str(path))
    if match is None or path.exists():
        return None
    scheme, rest = match.groups()
    return f"{scheme}:///{rest}" if scheme == "file" else f"{scheme}://{rest}"


def shown_name(path: Path) -> str:
    """Return what the user wrote."""
    return remote_name(path) or str(path)


def fetched(path: Path, directory: Path, number: int = 0) -> Path:
    """Return a path that can be opened here: `path`, or a copy of the remote file under `directory`, by its own name in a folder `number`.

    Blocks while it copies. Raises `ConfigError` for a file or kind of place that is not there, `StorageError` if it cannot be read.
    """
    name = remote_name(path)
    if name is None:
        return path
    target = directory / f"fetched-{number}" / path.name
    target.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        with _opened(name) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, _CHUNK_BYTES)
    except FileNotFoundError as exc:
        raise ConfigError(f"{foreign(name)}: there is no such file") from exc
    except (ImportError, ValueError) as exc:
        raise ConfigError(f"{foreign(name)}: cannot be opened: {foreign(str(exc), 300)}") from exc
    except OSError as exc:
        raise StorageError(f"{foreign(name)}: cannot be read: {foreign(str(exc), 300)}") from exc
    return target


def _opened(name: str) -> Any:
    # The one entry of this optional extra.
    try:
        import fsspec
    except ImportError as exc:
        raise ConfigError(f"{foreign(name)}: files elsewhere need the remote extra: pip install 'tidebook[remote]'") from exc
    return fsspec.open(name, "rb")
