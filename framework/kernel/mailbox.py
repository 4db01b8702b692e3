"""A bounded mailbox with two lanes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from framework.messages import Message

SlotKey = tuple[type[Message], str | None]
BATCH: Final = 64


class Mailbox:
    """Mail of one actor: CONTROL is a queue, lossless and first; DATA keeps the newest message per slot.

    Bounds: CONTROL holds at most `control_max` messages. One more and the mailbox is overfull: its memory stays bounded, it
    says so in `is_overfull`, and the bus makes that a fault of its owner. DATA holds one message per (type, instrument), each in
    the place in line of the first one; `put_count` less what was delivered, waits or was dropped is what was replaced.
    """

    __slots__ = ("control", "control_max", "data", "data_delivered", "data_put", "delivered", "dropped", "failed_on", "handle")

    def __init__(self, handle: Callable[[Message], None], *, control_max: int) -> None:
        self.handle = handle
        self.control_max = control_max
        # One beyond the bound: senders append without a look, and the extra message is the evidence.
        self.control: deque[Message] = deque(maxlen=control_max + 1)
        self.data: dict[SlotKey, Message] = {}
        self.data_put = 0
        self.data_delivered = 0
        self.delivered = 0
        self.dropped = 0
        self.failed_on: Message | None = None

    def __len__(self) -> int:
        return len(self.control) + len(self.data)

    @property
    def is_overfull(self) -> bool:
        """Return whether the control lane was sent more than it may hold."""
        return len(self.control) > self.control_max

    def run(self) -> int:
        """Hand at most `BATCH` messages to the owner and return how many. Raises what the handler raises.

        The message that raised counts as delivered, is gone and stands in `failed_on`.
        """
        control, handle = self.control, self.handle
        message: Message | None = None
        count = 0
        try:
            for _ in range(min(len(control), BATCH)):
                if not control:  # a handler removed its own actor
                    break
                message = control.popleft()
                count += 1
                handle(message)
            while self.data and not control and count < BATCH:
                message = self.data.pop(next(iter(self.data)))
                count += 1
                self.data_delivered += 1
                handle(message)
        except Exception:
            self.failed_on = message
            raise
        finally:
            self.delivered += count
        return count

    def clear(self) -> int:
        """Drop all mail; return and count how much."""
        dropped = len(self)
        self.dropped += dropped
        self.data_delivered += len(self.data)
        self.control.clear()
        self.data.clear()
        return dropped

    @property
    def conflated(self) -> int:
        """Return how many DATA messages were replaced by newer ones."""
        return self.data_put - self.data_delivered - len(self.data)
