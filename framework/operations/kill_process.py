"""The second process: a line of its own to a venue elsewhere, which works while the trading process hangs.

    python -m framework.operations.kill_process STATE_DIR

It looks at the kill switch twenty times a second. While that is set, it cancels whatever is open at the venue, until the venue says
that nothing is. `halt` talks to it over `kill.sock`: what stands, cancel everything, send this order (to close a position). It ends
with the venue.
"""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import sys
from pathlib import Path
from typing import Final

from framework import unix_sockets
from framework.errors import StorageError, TidebookError, WireError
from framework.model import Side
from framework.operations import kills
from framework.operations.venue_halt import KILL_SOCKET, empty
from framework.venues.elsewhere.frames import (
    CancelEverything,
    Frame,
    Look,
    Lots,
    Quote,
    Refused,
    Report,
    Standing,
    Submit,
    Unpacker,
    pack,
    to_venue,
)
from framework.venues.elsewhere.kill_line import PaperKillLine
from framework.venues.port import KillLine

LOOK_S: Final = 0.05
CLIENT_S: Final = 5.0
MOST_CLIENTS: Final = 4
log = logging.getLogger("KillLine")


class Client:
    """Somebody who talks to the kill process."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._unpacker = Unpacker()
        connection.settimeout(CLIENT_S)

    def frames(self) -> list[Frame] | None:
        """Return what was said, None for a client that has gone. Raises `WireError` for what is no frame."""
        data = self.connection.recv(65_536)
        return [to_venue(body) for body in self._unpacker.feed(data)] if data else None


class KillProcess:
    """Watch the switch, the venue and whoever asks."""

    def __init__(self, state_dir: Path, line: PaperKillLine) -> None:
        self._line = line
        self._is_set = kills.reader(state_dir)
        self._listener = unix_sockets.listen(state_dir, KILL_SOCKET)
        self._path = state_dir / KILL_SOCKET
        self._clients: dict[int, Client] = {}
        self._canceled: dict[str, None] = {}

    def run(self) -> None:
        """Work until the venue has gone."""
        while True:
            ready, _, _ = select.select((self._line.fileno(), self._listener.fileno(), *self._clients), (), (), LOOK_S)
            if self._line.fileno() in ready:
                return  # nothing is said here that was not asked for: it is the end
            if self._is_set():
                self._empty()
            else:
                self._canceled.clear()
            if self._listener.fileno() in ready:
                self._accept()
            for descriptor in ready:
                if descriptor in self._clients:
                    self._serve(descriptor)

    def close(self) -> None:
        """End."""
        for client in self._clients.values():
            client.connection.close()
        self._listener.close()
        self._path.unlink(missing_ok=True)
        self._line.close()

    def _empty(self) -> None:
        """Cancel whatever is open, as long as it takes: the next look goes on with what did not end."""
        emptied = empty(self._line, within_s=CLIENT_S)
        for name in emptied.canceled:
            log.warning("the kill switch is set: %s is canceled", name)
        for name in emptied.unconfirmed:
            log.error("the kill switch is set: %s is still open", name)
        self._canceled |= dict.fromkeys(emptied.canceled)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        if len(self._clients) < MOST_CLIENTS and unix_sockets.is_ours(connection):
            self._clients[connection.fileno()] = Client(connection)
        else:
            connection.close()

    def _serve(self, descriptor: int) -> None:
        """Do what a client asks for; a senseless one is left."""
        client = self._clients[descriptor]
        try:
            frames = client.frames()
            for frame in frames or ():
                for answer in self._answers(frame):
                    client.connection.sendall(pack(answer))
        except (OSError, WireError) as exc:
            log.warning("a client of the kill line is left: %s", exc)
            frames = None
        if frames is None:
            client.connection.close()
            del self._clients[descriptor]

    def _answers(self, frame: Frame) -> list[Frame]:
        try:
            match frame:
                case Look(number=number):
                    return [_look(self._line, number, tuple(self._canceled))]
                case CancelEverything():
                    self._line.cancel_everything()
                    return []
                case Submit(order=order):
                    return [Report(report=report) for report in self._line.send(order)]
        except StorageError as exc:
            return [Refused(reason=str(exc))]
        return [Refused(reason="a kill line looks, cancels, and sends orders that do not rest")]


def _look(line: KillLine, number: int, canceled: tuple[str, ...]) -> Standing:
    standing = line.standing()
    held = tuple(Lots(*holder, lots) for holder, lots in standing.positions.items())
    names = {instrument_id: None for _, instrument_id in standing.positions}
    quotes = tuple(Quote(name, line.best(name, Side.BUY), line.best(name, Side.SELL)) for name in names)
    return Standing(number=number, open_orders=standing.open_orders, positions=held, quotes=quotes, canceled=canceled)


def main(state_dir: Path) -> int:
    """Run until the venue has gone; the first line on stdout says that it is ready."""
    try:
        process = KillProcess(state_dir, PaperKillLine(state_dir))
    except OSError as exc:
        log.error("no kill line to the venue in %s: %s", state_dir, exc)
        return StorageError.exit_code
    sys.stdout.write(json.dumps({"pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    try:
        process.run()
    except TidebookError as exc:
        log.error("%s", exc)
        return exc.exit_code
    finally:
        process.close()
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s | %(levelname)s | %(name)s | %(message)s")
    sys.exit(main(Path(sys.argv[1])))
