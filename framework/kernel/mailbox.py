"""A bounded mailbox with two lanes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from operator import length_hint
from typing import Final

from framework.errors import KernelError
from framework.kernel.actor import Actor
from framework.messages import Message

BATCH: Final = 64
_NOTHING: Final[Iterator[Message]] = iter(())


class Mailbox:
    """Mail of one actor: CONTROL is a queue, lossless and first; DATA keeps the newest message per slot.

    Senders put CONTROL by `control.append`, without a call of ours and without a look at the bound: it holds `control_max`
    messages and one more, which is the evidence that it is overfull; what comes after that pushes the oldest out. DATA comes
    by `take`; a slot keeps its place in line when its message is replaced. The senders' counts, `control_put` and `data_put`,
    are booked by the bus; what was neither delivered nor waits was dropped or conflated.
    """

    __slots__ = (
        "actor",
        "control",
        "control_max",
        "control_put",
        "data_delivered",
        "data_dropped",
        "data_hand",
        "data_put",
        "delivered",
        "failed_on",
        "hand",
        "handle",
        "is_awake",
        "overflows",
        "rank",
        "slots",
    )

    def __init__(self, actor: Actor, *, rank: int, control_max: int) -> None:
        self.actor = actor
        self.handle = actor.handle
        self.rank = rank
        self.control_max = control_max
        self.control: deque[Message] = deque(maxlen=control_max + 1)
        self.slots: dict[str, Message] = {}
        self.is_awake = False
        self.failed_on: Message | None = None
        self.hand = self.data_hand = _NOTHING
        self.control_put = self.data_put = 0
        self.delivered = self.data_delivered = self.data_dropped = self.overflows = 0

    def __len__(self) -> int:
        return len(self.control) + len(self.slots)

    @property
    def conflated(self) -> int:
        """Return how many DATA messages were replaced by newer ones. Exact between two runs, as `dropped` is."""
        return self.data_put - self.data_delivered - self.data_dropped - len(self.slots)

    @property
    def dropped(self) -> int:
        """Return how many messages were pushed out by an overflow or cleared."""
        return self.control_put - (self.delivered - self.data_delivered) - len(self.control) + self.data_dropped

    def take(self, fresh: dict[str, Message]) -> None:
        """Put the newest DATA messages into their slots; `fresh` is this mailbox's own from here on."""
        if self.slots:
            self.slots.update(fresh)
        else:
            self.slots = fresh

    def run(self) -> int:
        """Hand at most `BATCH` messages of each lane to the actor, DATA once CONTROL is empty; return how many.

        What was sent meanwhile for a slot waits for the next run. Raises what the handler raises: the message counts as
        delivered and stands in `failed_on`, those behind it wait. Raises `KernelError` if CONTROL is overfull.
        """
        # One message is the common case outside of bursts, for less than half the cost.
        control, slots = self.control, self.slots
        if len(control) + len(slots) != 1:
            return self._run_several()
        if control:
            message = control.popleft()
        else:
            message = slots.popitem()[1]
            self.data_delivered += 1
        self.delivered += 1
        try:
            self.handle(message)
        except Exception:
            self.failed_on = message
            raise
        return 1

    def clear(self) -> None:
        """Drop all mail, also what a run has in hand."""
        self.data_dropped += len(self.slots) + length_hint(self.data_hand)
        self.control.clear()
        self.slots.clear()
        deque(self.hand, maxlen=0)
        deque(self.data_hand, maxlen=0)

    def _run_several(self) -> int:
        count = self._run_control() if self.control else 0
        if self.slots and not self.control:
            count += self._run_data()
        return count

    def _run_control(self) -> int:
        # Taking the batch in one piece is half the cost of taking message by message; nobody else sends while we run.
        control, handle = self.control, self.handle
        if len(control) > self.control_max:
            control.popleft()
            self.overflows += 1
            raise KernelError(f"the mailbox of {self.actor.name!r} is full ({self.control_max} messages): the oldest were dropped")
        if len(control) <= BATCH:
            batch = iter(tuple(control))
            control.clear()
        else:
            batch = iter([control.popleft() for _ in range(BATCH)])
        self.hand = batch
        count, message = 0, None
        try:
            for message in batch:
                count += 1
                handle(message)
        except BaseException:
            self.failed_on = message
            control.extendleft(reversed(tuple(batch)))
            raise
        finally:
            self.delivered += count
        return count

    def _run_data(self) -> int:
        control, slots, handle = self.control, self.slots, self.handle
        if len(slots) <= BATCH:
            self.slots = {}
        else:
            slots = dict(islice(slots.items(), BATCH))
            for key in slots:
                del self.slots[key]
        self.data_hand = batch = iter(slots.values())
        count, message = 0, None
        try:
            for message in batch:
                count += 1
                handle(message)
                if control:
                    self._put_back(slots, batch)
                    break
        except BaseException:
            self.failed_on = message
            self._put_back(slots, batch)
            raise
        finally:
            self.delivered += count
            self.data_delivered += count
        return count

    def _put_back(self, slots: dict[str, Message], batch: Iterator[Message]) -> None:
        """Return what is left of a batch to the front of its lane."""
        handled = len(slots) - length_hint(batch)
        self.slots = dict(islice(slots.items(), handled, None)) | self.slots
        self.data_hand = _NOTHING
