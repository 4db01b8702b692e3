"""Who serves, who is on trial, what is kept, and every decision about that: one pointer file and an append-only log.

`champion.json` is replaced atomically and carries the newest decision; then `decisions.jsonl` gets that decision as a line.
A crash in between loses nothing: the line is written by whoever writes next, and readers see it meanwhile.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from framework.errors import IntegrityError
from ml_actor.registry.durable import append_line, read_at_most, replace
from ml_actor.registry.manifest import MAX_MANIFEST_BYTES

MAX_HISTORY: Final = 20
MAX_LOG_BYTES: Final = 64 << 20
MAX_REASON: Final = 2_000
_POINTERS: Final = ("champion.json", "champion.previous.json")


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was decided about a version: `act`, by whom (`gate`, `trial`, `operator`), when (UTC ns), why, and on what evidence."""

    number: int
    act: str
    version: str
    by: str
    reason: str = ""
    at_ns: int = 0
    champion: str = ""
    before: str = ""
    evidence: dict[str, Any] = {}


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The pointer: champion, the champions before it (oldest first), challengers on trial, versions kept for ever."""

    champion: str = ""
    history: tuple[str, ...] = ()
    challengers: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()
    last: Decision | None = None

    @property
    def protected(self) -> frozenset[str]:
        """Return the versions that are never deleted: champion, the one before it, challengers, pinned ones."""
        return frozenset({self.champion, *self.history[-1:], *self.challengers, *self.pinned})

    def crowned(self, version: str) -> Standing:
        """Return the standing after `version` became the champion."""
        if version == self.champion:
            return self
        history = tuple(old for old in (*self.history, self.champion) if old and old != version)
        challengers = tuple(name for name in self.challengers if name != version)
        return msgspec.structs.replace(self, champion=version, history=history[-MAX_HISTORY:], challengers=challengers)


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A version (or the pointer) that could not be loaded, and why."""

    version: str
    reason: str


class StandingFile:
    """The pointer and the log in one directory. One process writes; any number may read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._log = directory / "decisions.jsonl"

    def read(self, refused: list[Refused] | None = None) -> Standing:
        """Return the standing; of a damaged pointer the one before it. What was passed over is appended to `refused`."""
        for name in _POINTERS:
            path = self._directory / name
            if not path.exists():
                continue
            try:
                return msgspec.json.decode(read_at_most(path, MAX_MANIFEST_BYTES), type=Standing)
            except (msgspec.DecodeError, IntegrityError) as exc:
                if refused is not None:
                    refused.append(Refused(version=name, reason=str(exc)))
        return Standing()

    def write(self, standing: Standing, decision: Decision) -> None:
        """Replace the pointer and log the decision; its number is given here."""
        self._catch_up()
        known = self.decisions()
        numbered = msgspec.structs.replace(decision, number=1 + (known[-1].number if known else 0), reason=decision.reason[:MAX_REASON])
        pointer, previous = (self._directory / name for name in _POINTERS)
        if pointer.exists():
            replace(previous, pointer.read_bytes())
        replace(pointer, msgspec.json.encode(msgspec.structs.replace(standing, last=numbered)))
        append_line(self._log, msgspec.json.encode(numbered))

    def decisions(self) -> tuple[Decision, ...]:
        """Return every decision, oldest first. Lines that a crash or an editor broke are left out."""
        found = list(self._logged())
        last = self.read().last
        if last is not None and (not found or last.number > found[-1].number):
            found.append(last)
        return tuple(found)

    def _logged(self) -> list[Decision]:
        if not self._log.exists():
            return []
        decoder, found = msgspec.json.Decoder(Decision), []
        for line in read_at_most(self._log, MAX_LOG_BYTES).splitlines():
            try:
                found.append(decoder.decode(line))
            except msgspec.DecodeError:
                continue
        return found

    def _catch_up(self) -> None:
        last, logged = self.read().last, self._logged()
        if last is not None and (not logged or last.number > logged[-1].number):
            append_line(self._log, msgspec.json.encode(last))
