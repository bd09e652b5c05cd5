"""The session of a transport whose commits may be part of the application's own transaction."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from kombu_core.exceptions import KombuError, LeaseLostError
from kombu_core.virtual.broker import lost_text
from kombu_core.virtual.session import Session
from kombu_core.virtual.store import Claim, Release, Store


class JoiningSession(Session):
    """Settles at once while the calling thread is in a transaction; see `Session`."""

    def __init__(
        self, store: Store, id: str, *, lease: float, give_up: Callable[[Session], object]
    ) -> None:
        super().__init__(store, id, lease=lease, give_up=give_up)
        #: Claims of transactions that were, or may have been, rolled back.
        self._returned: deque[Claim] = deque()

    @property
    def is_joined(self) -> bool:
        """Whether the calling thread's commits are part of a transaction."""
        raise NotImplementedError

    def acknowledge(self, claims: Sequence[Claim]) -> None:
        if not self.is_joined:
            super().acknowledge(claims)
            return
        lost = self._broker.acknowledge(claims)
        if lost:
            raise LeaseLostError(lost_text(lost))

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Release soon, outside of any transaction, what was settled in one that is undone."""
        self._returned.extend(claims)
        self._hurry_acks()

    def flush(self) -> None:
        super().flush()
        returned = self._returned
        if returned and not self.is_joined:
            claims = [returned.popleft() for _ in range(len(returned))]
            try:
                self._broker.release([Release(claim) for claim in claims])
            except KombuError:
                returned.extend(claims)
                raise
