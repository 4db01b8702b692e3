"""An actor owns its state and handles one message at a time."""

from __future__ import annotations

from framework.messages import Message


class Actor:
    """Base of every actor.

    `handle` is called by the bus with one message at a time, runs to completion and does no I/O. An actor never waits
    for another one: an answer is a message.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def on_start(self) -> None:
        """Act once before the first message."""

    def handle(self, message: Message) -> None:
        """Handle one message. Raising is a fault of this actor, dealt with by the supervisor."""
        raise NotImplementedError(f"{type(self).__name__} has no handler for {type(message).__name__}")

    def on_stop(self) -> None:
        """Act once after the last message."""
