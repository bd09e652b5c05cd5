"""The unsettled deliveries of one channel, by delivery tag. No I/O."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from kombu_core.exceptions import PreconditionFailedError
from kombu_core.virtual.store import Claimed


class Window(Protocol):
    """Whoever counts its unacknowledged messages: a consumer."""

    unacked: int


#: One delivery: to whom (None: it was fetched by `basic.get`), and what.
Entry = tuple[Window | None, Claimed]


class Ledger:
    """Makes delivery tags and takes them back once. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[int, Entry] = {}
        self._last_tag = 0

    def __len__(self) -> int:
        return len(self._entries)

    def tag(self) -> int:
        """Return the tag of a delivery that needs no settling."""
        with self._lock:
            self._last_tag += 1
            return self._last_tag

    def add(self, entry: Entry) -> int:
        """Enter a delivery and return its tag: 1, 2, 3, … on each channel."""
        window = entry[0]
        with self._lock:
            self._last_tag = tag = self._last_tag + 1
            self._entries[tag] = entry
            if window is not None:
                window.unacked += 1
            return tag

    def pop(self, tag: int) -> Entry | None:
        """Remove and return one delivery; None if the tag is not among the unsettled."""
        with self._lock:
            entry = self._entries.pop(tag, None)
            if entry is not None and entry[0] is not None:
                entry[0].unacked -= 1
            return entry

    def take(self, tag: int, multiple: bool = False) -> dict[int, Entry]:
        """Remove and return one delivery, or all up to it (tag 0: all), oldest first.

        Raises:
            PreconditionFailedError: The tag is not among the unsettled (406, as RabbitMQ).
        """
        if not multiple:
            entry = self.pop(tag)
            if entry is None:
                raise _unknown(tag)
            return {tag: entry}
        with self._lock:
            if tag and tag not in self._entries:
                raise _unknown(tag)
            return self._remove([known for known in self._entries if not tag or known <= tag])

    def take_all(self) -> dict[int, Entry]:
        """Remove and return everything, oldest first."""
        with self._lock:
            return self._remove(list(self._entries))

    def put_back(self, entries: Mapping[int, Entry]) -> None:
        """Enter deliveries again that were taken, by their old tags."""
        with self._lock:
            self._entries = dict(sorted({**self._entries, **entries}.items()))
            for window, _ in entries.values():
                if window is not None:
                    window.unacked += 1

    def _remove(self, tags: list[int]) -> dict[int, Entry]:
        taken = {tag: self._entries.pop(tag) for tag in tags}
        for window, _ in taken.values():
            if window is not None:
                window.unacked -= 1
        return taken


def _unknown(tag: int) -> PreconditionFailedError:
    return PreconditionFailedError(f"PRECONDITION_FAILED - unknown delivery tag {tag}")
