"""The books about what was delivered on a channel and is not settled, and acks that wait.

Acks wait for each other, so that one frame acknowledges many: up to a tag below which nothing is
left to be settled, `multiple` says exactly what was said one by one. What is acknowledged beyond
such a gap goes by itself.
"""

from __future__ import annotations

from collections.abc import Iterator


class Deliveries:
    """Of one channel, since it was opened. The wire's lock is held around every method."""

    __slots__ = ("_acked", "_in_transaction", "_unsettled", "last")

    def __init__(self) -> None:
        #: The highest tag so far.
        self.last = 0
        # In the order of their tags.
        self._unsettled: dict[int, None] = {}
        self._acked: list[int] = []
        self._in_transaction: list[int] | None = None

    def add(self, tag: int, needs_ack: bool) -> None:
        """A delivery came."""
        self.last = tag
        if needs_ack:
            self._unsettled[tag] = None

    def settle(self, tag: int, multiple: bool) -> bool:
        """Note that a tag, or all up to it (0: all), is settled; False if there is none such."""
        unsettled = self._unsettled
        if multiple:
            if tag == 0:
                tags = list(unsettled)
            elif tag in unsettled:
                tags = [each for each in unsettled if each <= tag]
            else:
                return False
            for each in tags:
                del unsettled[each]
        elif tag in unsettled:
            del unsettled[tag]
            tags = [tag]
        else:
            return False
        if self._in_transaction is not None:
            self._in_transaction += tags
        return True

    # -- acks that wait --------------------------------------------------------------------

    def acknowledge(self, tag: int) -> int:
        """Note an ack that may wait; tell how many do. 0: there is no such delivery."""
        try:
            del self._unsettled[tag]
        except KeyError:
            return 0
        self._acked.append(tag)
        return len(self._acked)

    @property
    def has_acks(self) -> bool:
        """Whether acks wait."""
        return bool(self._acked)

    def take_acks(self) -> Iterator[tuple[int, bool]]:
        """Yield tag and `multiple` of the acks to send now."""
        acked, self._acked = self._acked, []
        lowest = next(iter(self._unsettled), None)
        if lowest is None or (acked and max(acked) < lowest):
            if acked:
                yield max(acked), len(acked) > 1
            return
        below = [tag for tag in acked if tag < lowest]
        if below:
            yield max(below), len(below) > 1
        for tag in acked:
            if tag > lowest:
                yield tag, False

    # -- more than one at a time -----------------------------------------------------------

    def requeued(self) -> None:
        """Everything went back to its queue (basic.recover)."""
        self._unsettled.clear()

    def begin(self) -> None:
        """From now on settling is part of a transaction; nothing is lost of one that has begun."""
        if self._in_transaction is None:
            self._in_transaction = []

    @property
    def is_transactional(self) -> bool:
        """Whether settling waits for a commit."""
        return self._in_transaction is not None

    def commit(self) -> None:
        """What was settled stays so."""
        self._in_transaction = []

    def rollback(self) -> None:
        """What was settled since the last commit is not."""
        undone, self._in_transaction = self._in_transaction or [], []
        if undone:
            self._unsettled = dict.fromkeys(sorted([*self._unsettled, *undone]))
