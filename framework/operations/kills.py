"""The kill switch from outside: one byte that the gate of the running process reads before every order, and the end of one that hangs.

The byte lives in the state directory and is shared memory for the trading process: whoever sets it has closed the gate at once,
whatever the event loop is doing. Then the process is asked to cancel (and to flatten); one that does not answer is ended, and with it a
venue that lives in it. At a venue elsewhere the kill line does the rest (`venue_halt`).
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from framework.errors import StartRefused, StorageError
from framework.model import TradingState
from framework.operations import control, offline
from framework.operations.state_dir import StateDir
from framework.operations.venue_halt import Emptied, close_positions, empty, kill_line

NAME: Final = "kill_switch"
SIZE: Final = 4_096
KILL_AFTER_S: Final = 2.0
TERM_S: Final = 2.0


class Halted(msgspec.Struct, frozen=True, kw_only=True):
    """What `halt` did. `killed` is the pid of a process that did not answer and was ended; `at_venue`: at a venue elsewhere."""

    trading_state: TradingState = TradingState.HALTED
    was_running: bool = False
    killed: int | None = None
    at_venue: Emptied | None = None

    @property
    def is_done(self) -> bool:
        """Return whether nothing is left at a venue elsewhere that was to end."""
        return self.at_venue is None or not (self.at_venue.unconfirmed or self.at_venue.left)


def reader(state_dir: Path) -> Callable[[], bool]:
    """Return a function that says whether the switch is set: one byte of shared memory, no system call. Creates the file."""
    descriptor = _open(state_dir)
    try:
        if os.fstat(descriptor).st_size < SIZE:
            os.ftruncate(descriptor, SIZE)
        memory = mmap.mmap(descriptor, SIZE, mmap.MAP_SHARED, mmap.PROT_READ)
    except OSError as exc:
        raise StorageError(f"{state_dir / NAME}: {exc.strerror}") from exc
    finally:
        os.close(descriptor)
    return lambda: memory[0] != 0


def write(state_dir: Path, *, is_set: bool) -> None:
    """Set or clear the switch, durably."""
    descriptor = _open(state_dir)
    try:
        if os.fstat(descriptor).st_size < SIZE:
            os.ftruncate(descriptor, SIZE)
        os.pwrite(descriptor, b"\1" if is_set else b"\0", 0)
        os.fsync(descriptor)
    except OSError as exc:
        # A full disk must not keep the switch from being thrown: the byte is in shared memory by now, or the file was not there.
        if exc.errno not in (errno.EIO, errno.ENOSPC):
            raise StorageError(f"{state_dir / NAME}: {exc.strerror}") from exc
    finally:
        os.close(descriptor)


def is_set(state_dir: Path) -> bool:
    """Return whether the switch is set."""
    try:
        return (state_dir / NAME).read_bytes()[:1] == b"\1"
    except OSError:
        return False


def clear(state_dir: Path) -> None:
    """Clear the switch, where there is one."""
    if (state_dir / NAME).exists():
        write(state_dir, is_set=False)


def halt(state_dir: Path, reason: str, *, is_flattening: bool, kill_after_s: float, now_ns: int) -> Halted:
    """Close the gate, have everything cancelled, and end a process that does not answer. Blocks for the CLI, never for the loop.

    What rests at a venue elsewhere is cancelled over the kill line, whatever became of the process. Raises `StartRefused` if positions
    are to be closed and nobody is there who could, `StorageError` if such a venue does not answer.
    """
    state = StateDir(state_dir)
    if not state.is_locked():
        at_venue = _at_venue(state_dir, reason, is_flattening=is_flattening, now_ns=now_ns)
        if is_flattening and at_venue is None:
            raise StartRefused(f"nothing runs in {state_dir}: it is halted, and nobody is there to close positions")
        return Halted(at_venue=at_venue)
    write(state_dir, is_set=True)
    if _is_answered(state_dir, control.Halt(reason=reason, flatten=is_flattening), kill_after_s):
        return Halted(was_running=True)
    killed = _end(state)
    said = f"{reason} (process {killed} did not answer and was killed)"
    return Halted(was_running=True, killed=killed, at_venue=_at_venue(state_dir, said, is_flattening=is_flattening, now_ns=now_ns))


def _at_venue(state_dir: Path, reason: str, *, is_flattening: bool, now_ns: int) -> Emptied | None:
    """Write the halt into the journal of a process that is gone, and see to what stands at a venue elsewhere (None: there is none).

    The kill process has canceled by now, because the switch is set; where that has died, it is done here.
    """
    offline.set_trading_state(state_dir, TradingState.HALTED, reason, now_ns)
    with kill_line(state_dir) as line:
        if line is None:
            return None
        emptied = empty(line)
        if not is_flattening or emptied.unconfirmed:
            return emptied
        with offline.open_journal(state_dir) as journal:
            closed = close_positions(line, journal)
    return msgspec.structs.replace(emptied, closed=closed.closed, left=closed.left)


def _is_answered(state_dir: Path, command: control.Halt, within_s: float) -> bool:
    """Give the command until somebody takes it (a process that starts has no socket yet); return whether somebody did in time."""
    end_s = time.monotonic() + within_s
    while (left_s := end_s - time.monotonic()) > 0:
        try:
            control.ask(state_dir, command, timeout_s=left_s)
        except control.NobodyThere:
            time.sleep(min(0.05, left_s))
        except StorageError:
            return False
        else:
            return True
    return False


def sentence(halted: Halted) -> str:
    """Return what `halt` did, for people."""
    killed = "" if halted.killed is None else f"; process {halted.killed} did not answer and was killed"
    if halted.at_venue is not None:
        return f"trading is {halted.trading_state}{killed}{_venue_sentence(halted.at_venue)}"
    if killed:
        return f"trading is HALTED{killed}: look at the venue for orders that still rest there"
    return f"trading is {halted.trading_state}"


def _venue_sentence(found: Emptied) -> str:
    parts = [f"{len(found.canceled)} orders canceled at the venue" + (f" ({', '.join(found.canceled)})" if found.canceled else "")]
    parts += [f"closed {lots:+d} of {holder}" for holder, lots in found.closed.items()]
    parts += [f"STILL OPEN: {name}" for name in found.unconfirmed] or ["none is open there"]
    parts += [f"STILL HELD: {lots:+d} of {holder}" for holder, lots in found.left.items()]
    return "; " + "; ".join(parts)


def _end(state: StateDir) -> int | None:
    """End the owner of a state directory: asked, then killed. A hung loop hears no SIGTERM."""
    pid = state.last_owner()
    for number, wait_s in ((signal.SIGTERM, TERM_S), (signal.SIGKILL, TERM_S)):
        # The lock is the owner's own: while it is held, the pid in it is that process and no other.
        if pid is None or not state.is_locked():
            break
        os.kill(pid, number)
        end_s = time.monotonic() + wait_s
        while state.is_locked() and time.monotonic() < end_s:
            time.sleep(0.02)
    return pid


def _open(state_dir: Path) -> int:
    try:
        return os.open(state_dir / NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StorageError(f"{state_dir / NAME}: {exc.strerror}") from exc
