"""Broken in-memory stores, one defect each, and the tests of the kit that have to notice.

Not collected by itself: `test_mutants.py` runs it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import pytest

from kombu_core import memory
from kombu_core.memory import MemoryStore
from kombu_core.message import Envelope
from kombu_core.testing.contract import BrokerUnderTest, TransportContract
from kombu_core.virtual import routing
from kombu_core.virtual.deadletter import buried
from kombu_core.virtual.routing import Destination, TopicTable
from kombu_core.virtual.store import Batch, Claimed, CommitResult, Want


class Mutated(TransportContract):
    """The kit on a broken store."""

    #: What stands in for the store.
    _Store: ClassVar[type[MemoryStore]] = MemoryStore
    #: The tests that must fail.
    caught_by: ClassVar[tuple[str, ...]] = ()

    @pytest.fixture
    def broker(self, monkeypatch: pytest.MonkeyPatch, token: str) -> BrokerUnderTest:
        monkeypatch.setattr(memory, "MemoryStore", self._Store)
        return BrokerUnderTest(url=f"memory://{token}", transport_options={"lease": 0.5}, lease=0.5)


class TestHealthy(Mutated):
    """The store as it is, to tell that it is the defects that fail the tests."""


class TestForgetsAcks(Mutated):
    class _Store(MemoryStore):
        def commit(self, batch: Batch) -> CommitResult:
            return super().commit(batch._replace(acks=()))

    caught_by = ("test_an_acknowledged_message_is_gone",)


class TestStoresTwice(Mutated):
    class _Store(MemoryStore):
        def commit(self, batch: Batch) -> CommitResult:
            return super().commit(batch._replace(puts=[*batch.puts, *batch.puts]))

    caught_by = ("test_a_queue_gets_one_copy_however_many_bindings_match[topic]",)


class TestStoresForOneQueueOnly(Mutated):
    class _Store(MemoryStore):
        def commit(self, batch: Batch) -> CommitResult:
            return super().commit(batch._replace(puts=batch.puts[:1]))

    caught_by = (
        "test_direct_gives_each_bound_queue_a_copy",
        "test_a_batch_is_stored_in_order",
    )


class TestReorders(Mutated):
    class _Store(MemoryStore):
        def claim(self, wants: Sequence[Want], session: str, limit: int) -> list[Claimed]:
            return super().claim(wants, session, limit)[::-1]

    caught_by = ("test_messages_come_in_order",)


class TestLosesWhatIsReleased(Mutated):
    class _Store(MemoryStore):
        def _release(self, queue: str, message_id: str, is_delivered: bool) -> None:
            self._host.queues[queue].claimed.pop(message_id)

    caught_by = (
        "test_a_requeued_message_goes_back_to_its_place",
        "test_unacknowledged_messages_come_back_when_the_channel_closes",
        "test_unacknowledged_messages_come_back_when_the_connection_is_released",
    )


class TestForgetsRedelivered(Mutated):
    class _Store(MemoryStore):
        def claim(self, wants: Sequence[Want], session: str, limit: int) -> list[Claimed]:
            found = super().claim(wants, session, limit)
            return [claimed._replace(deliveries=0) for claimed in found]

    caught_by = (
        "test_a_requeued_message_is_marked_redelivered",
        "test_a_consumer_gets_its_requeued_message_again",
    )


class TestIgnoresTheClaimLimit(Mutated):
    class _Store(MemoryStore):
        def claim(self, wants: Sequence[Want], session: str, limit: int) -> list[Claimed]:
            greedy = [want._replace(limit=1000) for want in wants]
            return super().claim(greedy, session, 1000)

    caught_by = ("test_what_is_beyond_the_limit_is_for_others",)


class TestDeliversExpired(Mutated):
    class _Store(MemoryStore):
        def claim(self, wants: Sequence[Want], session: str, limit: int) -> list[Claimed]:
            found = super().claim(wants, session, limit)
            return [claimed._replace(is_expired=False) for claimed in found]

    caught_by = ("test_a_requeued_message_keeps_its_old_deadline",)


class TestDeliversDelayedAtOnce(Mutated):
    class _Store(MemoryStore):
        def commit(self, batch: Batch) -> CommitResult:
            puts = [put._replace(delay=0.0) for put in batch.puts]
            return super().commit(batch._replace(puts=puts))

    caught_by = ("test_a_delayed_message_comes_when_its_time_has_come",)


class TestDropsPriority(Mutated):
    class _Store(MemoryStore):
        def commit(self, batch: Batch) -> CommitResult:
            puts = [put._replace(priority=0) for put in batch.puts]
            return super().commit(batch._replace(puts=puts))

    caught_by = ("test_the_highest_comes_first_then_the_oldest",)


class TestReleasesToTheBack(Mutated):
    class _Store(MemoryStore):
        def _release(self, queue: str, message_id: str, is_delivered: bool) -> None:
            item, _ = self._host.queues[queue].claimed[message_id]
            self._host.sequence += 1
            item.sequence = self._host.sequence
            super()._release(queue, message_id, is_delivered)

    caught_by = (
        "test_a_requeued_message_goes_back_to_its_place",
        "test_a_requeued_message_keeps_its_rank",
    )


class TestIgnoresLengthLimits(Mutated):
    class _Store(MemoryStore):
        def commit(self, batch: Batch) -> CommitResult:
            return super().commit(batch._replace(limits={}))

    caught_by = (
        "test_a_full_queue_pushes_out_its_oldest",
        "test_a_full_queue_may_refuse_instead",
    )


class TestIgnoresVersions(Mutated):
    class _Store(MemoryStore):
        def _check(self, expect: Iterable[tuple[str, int]]) -> None:
            pass

    caught_by = (
        "test_a_binding_of_another_connection_is_seen_by_the_next_publish[direct]",
        "test_an_unbinding_of_another_connection_is_seen_by_the_next_publish",
    )


class TestPurgesTheClaimed(Mutated):
    class _Store(MemoryStore):
        def purge(self, queue: str) -> int:
            purged = super().purge(queue)
            self._host.queues[queue].claimed.clear()
            return purged

    caught_by = ("test_a_purge_tells_how_many_and_spares_the_unacknowledged",)


class TestForgetsToRenew(Mutated):
    class _Store(MemoryStore):
        def renew(self, session: str, ttl: float) -> bool:
            return True

    caught_by = ("test_a_slow_handler_keeps_its_message",)


class TestSpins(Mutated):
    class _Store(MemoryStore):
        def wait(self, queues: Collection[str], timeout: float) -> bool:
            return True

    caught_by = ("test_an_idle_connection_uses_no_processor",)


class TestOversleeps(Mutated):
    class _Store(MemoryStore):
        def wait(self, queues: Collection[str], timeout: float) -> bool:
            threading.Event().wait(timeout)
            return False

    caught_by = ("test_an_idle_connection_wakes_for_a_message",)


class _TwoWords(TopicTable):
    """Lets a last `*` stand for two words."""

    def match(self, routing_key: str, headers: Mapping[str, Any]) -> Iterable[Destination]:
        return [
            *super().match(routing_key, headers),
            *super().match(routing_key.rpartition(".")[0], headers),
        ]


class TestStarMatchesTwoWords(Mutated):
    @pytest.fixture(autouse=True)
    def _routing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        types = {**routing.EXCHANGE_TYPES, "topic": _TwoWords}
        monkeypatch.setattr("kombu_core.virtual.transport.EXCHANGE_TYPES", types)

    caught_by = (
        "test_topic[a.*-a.b.c-False]",
        "test_topic_agrees_with_a_plain_reading_of_the_rule[0]",
    )


class _Misruled(Mutated):
    """The store is whole; a rule of the model is not."""

    #: What stands in for what, by its full name.
    replaced: ClassVar[tuple[str, Any]] = ("", None)

    @pytest.fixture(autouse=True)
    def _rule(self, monkeypatch: pytest.MonkeyPatch) -> None:
        name, substitute = self.replaced
        monkeypatch.setattr(name, substitute)


def _buried_alive(envelope: Envelope, **death: Any) -> Envelope:
    """Leave the time to live on a dead letter."""
    return buried(envelope, **death)._replace(properties=envelope.properties)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Check nothing."""


def _yes(*args: Any) -> bool:
    return True


def _no(*args: Any) -> bool:
    return False


def _no_failure(*args: Any) -> list[Exception]:
    """Commit nothing."""
    return []


class TestDeadLettersDieAgain(_Misruled):
    replaced = ("kombu_core.virtual.broker.buried", _buried_alive)
    caught_by = ("test_a_messages_expiration_is_moved_into_the_header",)


class TestCyclesNeverEnd(_Misruled):
    replaced = ("kombu_core.virtual.broker.is_cycle", _no)
    caught_by = ("test_a_cycle_without_a_rejection_ends",)


class TestNobodyIsEverLocked(_Misruled):
    replaced = ("kombu_core.virtual.declaring.check_access", _nothing)
    caught_by = ("test_an_exclusive_queue_is_locked_for_other_connections[purge]",)


class TestCommitsInPartAreFine(_Misruled):
    replaced = ("kombu_core.virtual.channel.Transaction.commit", _no_failure)
    caught_by = (
        "test_what_is_published_waits_for_the_commit",
        "test_a_commit_of_which_a_part_is_refused_says_so",
    )


class TestAllConsumersAreActive(_Misruled):
    replaced = ("kombu_core.virtual.consuming.Dispatcher._activate", _yes)
    caught_by = ("test_only_one_consumer_is_active",)


MUTANTS: Final[dict[str, type[Mutated]]] = {
    mutant.__name__: mutant
    for mutant in (*Mutated.__subclasses__(), *_Misruled.__subclasses__())
    if mutant.caught_by
}
CATCHERS: Final = sorted({test for mutant in MUTANTS.values() for test in mutant.caught_by})
