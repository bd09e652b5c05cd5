"""What waits on a transactional channel for `tx.commit` (AMQP 0-9-1, section 1.9)."""

from __future__ import annotations

from collections.abc import Mapping

from kombu_core.exceptions import KombuError
from kombu_core.transport import Publication
from kombu_core.virtual.broker import Broker
from kombu_core.virtual.ledger import Entry
from kombu_core.virtual.store import Claimed, Conflict, Release


class Transaction:
    """Publishes and settles that were asked for, and not done yet."""

    def __init__(self) -> None:
        self.publications: list[Publication] = []
        self.acks: list[Claimed] = []
        self.releases: list[Claimed] = []
        self.dead: list[Claimed] = []
        #: All of these by their tags, to be put back by `tx.rollback`.
        self.entries: dict[int, Entry] = {}

    def settle(self, entries: Mapping[int, Entry], way: list[Claimed]) -> None:
        """Let deliveries wait to be settled in one of the three ways."""
        self.entries.update(entries)
        way += [claimed for _, claimed in entries.values()]

    def commit(self, broker: Broker) -> list[KombuError]:
        """Do all in one commit; returns why publications were not stored.

        Raises:
            LeaseLostError: A claim was lost; nothing was done.
        """
        while True:
            burials, expect = broker.burials(self.dead, "rejected")
            try:
                failed = broker.publish(
                    [*self.publications, *burials],
                    acks=[item.claim for item in (*self.acks, *self.dead)],
                    releases=[Release(item.claim) for item in self.releases],
                    expect=expect,
                )
            except Conflict:
                continue
            break
        return [error for position, error in failed.items() if position < len(self.publications)]
