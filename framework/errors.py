"""One tree of errors. Each says what, where and the way out; the CLI turns each branch into its exit code.

TidebookError
├── ConfigError          exit 2   the user's input: a file, a key, an option
├── StartRefused         exit 3   another owner, a port in use, a venue that cannot be reconciled
├── StoppedByKill        exit 4   the kill switch is set
├── StorageError         exit 5   disk full, I/O error, a database that is locked
├── IntegrityError       exit 6   a checksum, signature or hash chain does not hold
├── WireError                     they sent nonsense (carries the code of the answer)
├── OffTickPrice                  a price between two ticks
└── KernelError                   a bug of ours: mailbox overflow, illegal transition
"""

from __future__ import annotations

from enum import StrEnum


class TidebookError(Exception):
    """Base of every error that Tidebook raises on purpose."""

    exit_code = 1


class ConfigError(TidebookError):
    """A file, key or option that cannot be used; the message names file, line, key, what was found and what is allowed."""

    exit_code = 2


class StartRefused(TidebookError):
    """The process must not start: another owner, a port in use, state that does not reconcile."""

    exit_code = 3


class StoppedByKill(TidebookError):
    """The kill switch is set; `resume` clears it."""

    exit_code = 4


class StorageError(TidebookError):
    """Disk full, I/O error or a locked database."""

    exit_code = 5


class IntegrityError(TidebookError):
    """Stored bytes do not match their checksum, signature or chain."""

    exit_code = 6


class ErrorCode(StrEnum):
    """Code of an error answer on the wire."""

    DECODE = "DECODE"
    BAD_FIELD = "BAD_FIELD"
    UNKNOWN_TYPE = "UNKNOWN_TYPE"
    UNSUPPORTED_VERSION = "UNSUPPORTED_VERSION"
    EXPIRED = "EXPIRED"
    NO_MODEL = "NO_MODEL"
    SCHEMA_MISMATCH = "SCHEMA_MISMATCH"
    OVERLOADED = "OVERLOADED"
    BUSY = "BUSY"
    ID_CONFLICT = "ID_CONFLICT"
    NOT_FOUND = "NOT_FOUND"
    REFUSED = "REFUSED"
    INTERNAL = "INTERNAL"


class WireError(TidebookError):
    """A frame or a field that the peer got wrong. `code` is what a server answers with."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class OffTickPrice(TidebookError):
    """A price that is not finite or lies between two ticks."""


class KernelError(TidebookError):
    """An invariant of the kernel or of a state machine is broken: a bug, never an input."""
