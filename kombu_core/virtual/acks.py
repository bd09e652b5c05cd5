"""Acks on their way to the store, sent together. No I/O of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from kombu_core.exceptions import LeaseLostError
from kombu_core.virtual.broker import lost_text
from kombu_core.virtual.store import Claim

#: Acks that wait to be sent together, at most, and for how many seconds.
ACK_BATCH: Final = 64
ACK_DELAY: Final = 0.005


class Acks:
    """The acks of one session that are not sent yet, and the claims that were lost. Thread-safe.

    Args:
        hurry: Called when acks begin to wait: they have to be flushed within `ACK_DELAY`.
    """

    def __init__(self, hurry: Callable[[], object]) -> None:
        self._hurry = hurry
        self._pending: deque[Claim] = deque()
        self._lost: list[Claim] = []
        self._flushing = threading.Lock()

    def add(self, claims: Sequence[Claim]) -> int:
        """Let acks wait; return how many do."""
        pending = self._pending
        pending.extend(claims)
        count = len(pending)
        if count == len(claims):
            self._hurry()
        return count

    def flush(self, send: Callable[[Sequence[Claim]], Sequence[Claim]]) -> None:
        """Send what waits, and wait for what another thread is sending.

        Args:
            send: Returns the claims that are lost. If it raises, all wait as before.
        """
        pending = self._pending
        with self._flushing:
            # Only this takes out, so the length can but grow meanwhile.
            claims = [pending.popleft() for _ in range(len(pending))]
            if not claims:
                return
            try:
                lost = send(claims)
            except BaseException:
                pending.extendleft(reversed(claims))
                raise
            self._lost += lost
        if pending:  # Who added these saw others waiting, and hurried nobody.
            self._hurry()

    def raise_lost(self) -> None:
        """Raise LeaseLostError once for the claims that turned out lost."""
        if self._lost:
            with self._flushing:
                lost, self._lost = self._lost, []
            raise LeaseLostError(lost_text(lost))
