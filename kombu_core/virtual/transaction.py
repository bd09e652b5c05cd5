"""What waits on a transactional channel for `tx.commit` (AMQP 0-9-1, section 1.9)."""

from __future__ import annotations

from kombu_core.transport import Publication
from kombu_core.virtual.ledger import Entry
from kombu_core.virtual.store import Claimed


class Transaction:
    """Publishes and settles that were asked for, and not done yet."""

    def __init__(self) -> None:
        self.publications: list[Publication] = []
        self.acks: list[Claimed] = []
        self.releases: list[Claimed] = []
        self.dead: list[Claimed] = []
        #: All of these by their tags, to be put back by `tx.rollback`.
        self.entries: dict[int, Entry] = {}
