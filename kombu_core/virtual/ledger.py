"""The unsettled deliveries of one channel, by delivery tag. No I/O.

Each step is one operation on a dict or a set, which no other thread can cut in two: so settling
from any thread needs no lock, and of two threads that settle the same tag one finds nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from kombu_core.exceptions import KombuError, PreconditionFailedError
from kombu_core.virtual.store import Claimed


class Window(Protocol):
    """Whoever has a limit of unacknowledged messages: a consumer."""

    #: Tags of its deliveries that are not settled.
    unacked: set[int]


#: One delivery: to whom (None: it was fetched by `basic.get`), and what.
Entry = tuple[Window | None, Claimed]


class Ledger:
    """Makes delivery tags and takes them back once. Thread-safe."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._tags = itertools.count(1)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def consumed(self) -> int:
        """How many of the deliveries were made to consumers, not fetched."""
        return sum(window is not None for window, _ in list(self._entries.values()))

    def tag(self) -> int:
        """Return the next tag, for a delivery that needs no settling: 1, 2, 3, …"""
        return next(self._tags)

    def add(self, entry: Entry) -> int:
        """Enter a delivery and return its tag."""
        tag = next(self._tags)
        window = entry[0]
        if window is not None:
            window.unacked.add(tag)
        self._entries[tag] = entry
        return tag

    def pop(self, tag: int) -> Entry | None:
        """Remove and return one delivery; None if the tag is not among the unsettled."""
        entry = self._entries.pop(tag, None)
        if entry is not None and entry[0] is not None:
            entry[0].unacked.discard(tag)
        return entry

    def take(self, tag: int, multiple: bool = False) -> dict[int, Entry]:
        """Remove and return one delivery, or all up to it (tag 0: all), oldest first.

        Raises:
            PreconditionFailedError: The tag is not among the unsettled (406, as RabbitMQ).
        """
        if tag not in self._entries and not (multiple and tag == 0):
            raise PreconditionFailedError(f"PRECONDITION_FAILED - unknown delivery tag {tag}")
        if not multiple:
            return self._pop_all([tag])
        return self._pop_all([known for known in sorted(self._entries) if not tag or known <= tag])

    def take_all(self) -> dict[int, Entry]:
        """Remove and return everything, oldest first."""
        return self._pop_all(sorted(self._entries))

    def put_back(self, entries: Mapping[int, Entry]) -> None:
        """Enter deliveries again that were taken, by their old tags."""
        for tag, entry in entries.items():
            if entry[0] is not None:
                entry[0].unacked.add(tag)
            self._entries[tag] = entry

    @contextmanager
    def or_put_back(self, entries: Mapping[int, Entry]) -> Iterator[None]:
        """Enter deliveries again if what they were taken for fails: they are not settled."""
        try:
            yield
        except KombuError:
            self.put_back(entries)
            raise

    def _pop_all(self, tags: list[int]) -> dict[int, Entry]:
        popped = ((tag, self.pop(tag)) for tag in tags)
        return {tag: entry for tag, entry in popped if entry is not None}
