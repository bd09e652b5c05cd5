"""The tests of a store, tested: each broken store is caught by the test that is named for it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterable, Mapping
from typing import ClassVar

import pytest

from kombu_core.memory import MemoryStore, VirtualHost
from kombu_core.testing.store import StoreContract
from kombu_core.testing.store.fixtures import LONG, ME
from kombu_core.virtual.store import Batch, Claim, CommitResult


class Mutant(MemoryStore):
    """A store with one fault."""

    caught_by: str
    #: What the test is parametrized by.
    arguments: ClassVar[Mapping[str, str]] = {}


class ForgetsAcks(Mutant):
    caught_by = "test_an_acknowledged_message_is_gone"

    def commit(self, batch: Batch) -> CommitResult:
        return super().commit(batch._replace(acks=()))


class CommitsInTwoSteps(Mutant):
    caught_by = "test_a_commit_that_was_routed_by_what_moved_applies_nothing"

    def commit(self, batch: Batch) -> CommitResult:
        super().commit(batch._replace(expect=()))
        return super().commit(Batch(expect=batch.expect))


class UsesVersionsAgain(Mutant):
    caught_by = "test_no_version_is_used_twice_not_even_after_a_delete"

    def _set(self, key: str, value: bytes | None) -> int:
        self._host.sequence = self._host.documents[key].version if key in self.keys() else 0
        return super()._set(key, value)

    def keys(self) -> Collection[str]:
        return self._host.documents.keys()


class LetsBothWin(Mutant):
    caught_by = "test_of_two_who_expect_the_same_version_one_wins"

    def _check(self, expect: Iterable[tuple[str, int]]) -> None:
        pass


class TakesPrefixesForPatterns(Mutant):
    caught_by = "test_a_scan_names_the_keys_of_a_prefix_sorted"

    def scan(self, prefix: str) -> list[str]:
        pattern = prefix.replace("_", ".")
        return [key for key in super().scan("") if re.match(pattern, key)]


class ReleasesToTheBack(Mutant):
    caught_by = "test_a_lapsed_session_gives_its_claims_back_as_delivered"

    def _release(self, queue: str, message_id: str, is_delivered: bool) -> None:
        item, _ = self._host.queues[queue].claimed[message_id]
        self._host.sequence += 1
        item.sequence = self._host.sequence
        super()._release(queue, message_id, is_delivered)


class NamesTheDeadOnce(Mutant):
    caught_by = "test_a_lapsed_session_is_named_until_it_is_ended"

    def reap(self) -> list[str]:
        names = super().reap()
        self._host.lapsed.clear()
        return names


class RenewsTheDead(Mutant):
    caught_by = "test_a_lapsed_session_can_neither_be_renewed_nor_claim"

    def renew(self, session: str, ttl: float) -> bool:
        self.begin(session, ttl)
        return True


class SettlesForTheDead(Mutant):
    caught_by = "test_a_lost_claim_is_never_taken_from_its_next_owner"

    def _lost(self, batch: Batch) -> list[Claim]:
        return []


class SettlesForAnybody(Mutant):
    caught_by = "test_a_session_that_lives_lost_nothing"

    def _owns(self, claim: Claim, session: str) -> bool:
        there = self._host.queues.get(claim.queue)
        return there is not None and claim.id in there.claimed


class PurgesTheClaimed(Mutant):
    caught_by = "test_a_purge_deletes_what_is_ready_and_spares_the_claimed"

    def purge(self, queue: str) -> int:
        purged = super().purge(queue)
        if queue in self._host.queues:
            self._host.queues[queue].claimed.clear()
        return purged


class ReapsInSilence(Mutant):
    caught_by = "test_a_wait_ends_when_another_handle_gives_back_what_a_session_had"
    arguments: ClassVar = {"how": "reap"}

    def _release_all(self, session: str) -> None:
        changed = vars(self._host.changed)
        changed["notify_all"] = lambda: None
        super()._release_all(session)
        del changed["notify_all"]


class NeverSleeps(Mutant):
    caught_by = "test_a_wait_in_vain_ends_with_its_timeout"

    def wait(self, queues: Collection[str], timeout: float) -> bool:
        return True


def run(store_class: type[MemoryStore], name: str, arguments: Mapping[str, str]) -> None:
    """Run one of the tests on a store of a class."""
    host = VirtualHost("x")
    test = getattr(StoreContract(), name)
    handles = inspect.signature(test).parameters.keys() - arguments.keys()
    stores = {each: store_class(host) for each in handles}
    stores["store"].begin(ME, LONG)
    test(**stores, **arguments)


@pytest.mark.parametrize("mutant", Mutant.__subclasses__(), ids=lambda each: each.__name__)
def test_a_broken_store_is_caught(mutant: type[Mutant]) -> None:
    run(MemoryStore, mutant.caught_by, mutant.arguments)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(mutant, mutant.caught_by, mutant.arguments)
