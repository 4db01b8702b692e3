"""The state directory: one folder that is ours alone (0700), owned by at most one process at a time (flock)."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import Final

from framework.errors import ConfigError, StartRefused, StorageError
from framework.logs import foreign

_NAMES: Final = (
    "journal.sqlite",
    "kill_switch",
    "lock",
    "control.sock",
    "venue.sock",
    "kill.sock",
    "venue_process.log",
    "kill_process.log",
    "training_data.parquet",
    "models",
    "ml_feedback.sqlite",
    "ml.log",
    "tidebook.log",
)
_NO_SPACE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}


class StateDir:
    """Names and ownership of a state directory. `create` checks it; `lock` makes this process its owner."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = path / "journal.sqlite"
        self.lock_file = path / "lock"
        self.control_socket = path / "control.sock"
        self.dataset = path / "training_data.parquet"
        self.models = path / "models"
        self.ml_feedback = path / "ml_feedback.sqlite"
        self.ml_log = path / "ml.log"
        self.log = path / "tidebook.log"
        self._lock_descriptor: int | None = None

    def create(self) -> StateDir:
        """Create the directory where it is missing, check it, and return self.

        Raises `ConfigError` if it is no directory, not ours, writable for others or holds a link; `StorageError` if the disk refuses.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError as exc:
            raise ConfigError(f"state directory {self._name}: found something that is no directory") from exc
        except (OSError, ValueError) as exc:
            raise self._refusal("cannot be created", exc) from exc
        self.check()
        return self

    def check(self) -> None:
        """Raise `ConfigError` unless the directory exists, is ours, closed to others and free of links to elsewhere."""
        try:
            status = self.path.stat()
        except (OSError, ValueError) as exc:
            raise self._refusal("cannot be used", exc) from exc
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigError(f"state directory {self._name}: found something that is no directory")
        if status.st_uid != os.geteuid():
            raise ConfigError(f"state directory {self._name}: belongs to user {status.st_uid}, not to user {os.geteuid()}")
        if status.st_mode & 0o022:
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            raise ConfigError(f"state directory {self._name}: mode {mode} lets others write; allowed 0700 (chmod 700 {self._name})")
        links = [name for name in _NAMES if (self.path / name).is_symlink()]
        if links:
            raise ConfigError(f"state directory {self._name}: {links[0]} is a symbolic link; allowed a file or directory of its own")

    def lock(self) -> None:
        """Become the owner until `unlock` or death. Raises `StartRefused` that names the pid of the present owner."""
        if self._lock_descriptor is not None:
            return
        descriptor = self._open_lock()
        if not _try_lock(descriptor):
            owner = _read_pid(descriptor)
            os.close(descriptor)
            by = f"process {owner}" if owner else "another process"
            raise StartRefused(f"state directory {self._name} is in use by {by}; stop it (main.py stop) or use another --state-dir")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock_descriptor = descriptor

    def unlock(self) -> None:
        """Give the directory free. Does nothing if it is not locked by this object."""
        if self._lock_descriptor is not None:
            os.ftruncate(self._lock_descriptor, 0)
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    def __enter__(self) -> StateDir:
        self.create()
        self.lock()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.unlock()

    def last_owner(self) -> int | None:
        """Return the pid in the lock file: the owner, or one that died without unlocking. None without either."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return _read_pid(descriptor)
        finally:
            os.close(descriptor)

    def is_locked(self) -> bool:
        """Return whether a process owns the directory now. Holds the lock for an instant if nobody does."""
        if self._lock_descriptor is not None:
            return True
        try:
            descriptor = os.open(self.lock_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)

    @property
    def _name(self) -> str:
        return foreign(str(self.path))

    def _open_lock(self) -> int:
        try:
            return os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise self._refusal("cannot be locked", exc) from exc

    def _refusal(self, what: str, exc: OSError | ValueError) -> ConfigError | StorageError:
        text = f"state directory {self._name}: {what}: {getattr(exc, 'strerror', None) or exc}"
        return StorageError(text) if getattr(exc, "errno", None) in _NO_SPACE else ConfigError(text)


def _try_lock(descriptor: int) -> bool:
    """Take the lock; try a few times, because somebody who only looks (`is_locked`) has it for an instant."""
    for pause_s in (0.01, 0.02, 0.05, None):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if pause_s is None:
                return False
            time.sleep(pause_s)
        else:
            return True
    return False


def _read_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None
