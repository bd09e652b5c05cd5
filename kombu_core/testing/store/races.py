"""Several at once: what has to be one step is one step."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from kombu_core.exceptions import SessionLostError
from kombu_core.message import Envelope
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import DEADLINE, run_threads
from kombu_core.testing.store.fixtures import LONG, OpenStore, ack, bodies, claim, put
from kombu_core.virtual.store import Batch, Conflict, Drop, Limit, Put, Store

#: How often each thread tries.
ROUNDS = 20


class RaceContract:
    """Two handles or four, each used by a thread, at the same time."""

    @pytest.fixture
    def four(self, store: Store, open_another: OpenStore) -> list[Store]:
        """Handles on the same virtual host."""
        return [store, *(open_another() for _ in range(3))]

    # -- documents -------------------------------------------------------------------------

    def test_of_two_who_expect_the_same_version_one_wins(self, store: Store, other: Store) -> None:
        both, wins = threading.Barrier(2, timeout=DEADLINE), list[int]()

        def write(handle: Store) -> None:
            for number in range(ROUNDS):
                (document,) = handle.read(["n"])
                both.wait()  # Now both have read.
                try:
                    handle.write({"n": b"%d" % number}, [("n", document.version)])
                    wins.append(number)
                except Conflict:
                    pass
                both.wait()  # Now both have written.

        run_threads([lambda: write(store), lambda: write(other)])
        assert wins == [*range(ROUNDS)]

    def test_writers_of_one_document_follow_each_other(self, four: list[Store]) -> None:
        four[0].write({"n": b"0"}, ())

        def increase(handle: Store) -> None:
            done = 0
            while done < ROUNDS:
                (there,) = handle.read(["n"])
                try:
                    handle.write({"n": b"%d" % (int(there.value) + 1)}, [("n", there.version)])
                    done += 1
                except Conflict:
                    pass

        run_threads([partial(increase, each) for each in four])
        assert int(four[0].read(["n"])[0].value) == 4 * ROUNDS

    def test_of_many_who_create_one_wins(self, four: list[Store]) -> None:
        for number in range(ROUNDS // 2):
            won: list[str] = []
            key = f"k{number}"
            expect = [(key, 0), ("other", 0)]
            run_threads([partial(_create, each, key, expect, won) for each in four])
            assert won == [key]

    def test_what_is_not_there_guards_too(self, store: Store, other: Store) -> None:
        """Each of two writers is sure that the document of the other one is not there."""
        for number in range(ROUNDS):
            won: list[str] = []
            a, b = f"a{number}", f"b{number}"
            run_threads(
                [
                    partial(_create, store, a, [(b, 0)], won),
                    partial(_create, other, b, [(a, 0)], won),
                ]
            )
            assert len(won) == 1

    def test_a_publish_that_begins_later_sees_the_change(self, store: Store, other: Store) -> None:
        version = 0
        puts = [Put("q", Envelope(b"x", {}, {}))]
        for number in range(ROUNDS):
            stale = version
            version = store.write({"exchange/x": b"%d" % number}, ()).versions["exchange/x"]
            with pytest.raises(Conflict) as caught:
                other.commit(Batch(puts, expect=[("exchange/x", stale)]))
            assert caught.value.keys == ("exchange/x",)
            other.commit(Batch(puts, expect=[("exchange/x", version)]))
        assert other.count("q").ready == ROUNDS

    @requires("atomic_commit")
    def test_no_put_outlives_the_queue_that_it_was_for(self, four: list[Store]) -> None:
        """Dropped and declared again all the time: what was confirmed for an old one is gone."""
        admin, *publishers = four
        admin.write({"queue/q": b"0"}, ())
        is_over = threading.Event()

        def publish(handle: Store) -> None:
            while not is_over.is_set():
                (there,) = handle.read(["queue/q"])
                if there.version:
                    same, expect = Put("q", Envelope(there.value, {}, {})), [there[:2]]
                    try:
                        handle.commit(Batch([same] * 2, expect=expect))
                        handle.commit(Batch([same], expect=expect))
                    except Conflict:
                        pass

        def declare() -> None:
            try:
                for number in range(1, 2 * ROUNDS):
                    time.sleep(0.005)
                    admin.write({"queue/q": None}, (), [Drop("q")])
                    assert admin.count("q") == (0, 0, 0)
                    admin.write({"queue/q": b"%d" % number}, ())
                    assert {*bodies(claim(admin))} <= {str(number)}
            finally:
                is_over.set()

        run_threads([declare, *(partial(publish, each) for each in publishers)])

    # -- messages --------------------------------------------------------------------------

    def test_a_message_is_claimed_by_one_only(self, four: list[Store]) -> None:
        names = [str(number) for number in range(20 * ROUNDS)]
        put(four[0], *names)
        had: list[str] = []

        def work(handle: Store, session: str) -> None:
            handle.begin(session, LONG)
            while claimed := claim(handle, 7, session=session):
                had.extend(bodies(claimed))
                assert not ack(handle, *claimed, session=session).lost

        run_threads([partial(work, each, f"w{n}") for n, each in enumerate(four)])
        # Who found nothing may have looked while others had the last ones locked.
        assert sorted(had + bodies(claim(four[0], len(names)))) == sorted(names)

    def test_no_claim_outlives_its_session(self, store: Store, other: Store) -> None:
        """Claims and the end of the session that they are for, at the same moment."""
        put(store, *map(str, range(10 * ROUNDS)))

        def work() -> None:
            try:
                while claim(other, 3, session="short"):
                    pass
            except SessionLostError:
                pass

        def end() -> None:
            time.sleep(0.004)
            store.end("short")

        for _ in range(ROUNDS):
            store.begin("short", LONG)
            run_threads([work, end])
            assert store.count("q") == (10 * ROUNDS, 0, 0)

    @requires("max_length", "atomic_commit")
    def test_many_who_publish_keep_a_limit(self, four: list[Store]) -> None:
        version = four[0].write({"queue/q": b"1"}, ()).versions["queue/q"]
        limits = {"q": Limit(max_length=50, overflow="reject")}
        puts = [Put("q", Envelope(b"x", {}, {}))] * 3
        refused: list[int] = []

        def publish(handle: Store) -> None:
            for _ in range(ROUNDS):
                batch = Batch(puts, expect=[("queue/q", version)], limits=limits)
                refused.extend(handle.commit(batch).rejected)

        run_threads([partial(publish, each) for each in four])
        assert four[0].count("q").ready == 50
        assert len(refused) == 4 * 3 * ROUNDS - 50

    def test_one_handle_is_used_by_two_threads(self, store: Store) -> None:
        def work(queue: str) -> None:
            for number in range(ROUNDS):
                put(store, str(number), queue=queue)
                assert bodies(claim(store, 1, queue=queue)) == [str(number)]

        run_threads([lambda: work("a"), lambda: work("b")])
        assert store.count("a") == store.count("b") == (0, ROUNDS, 0)


def _create(store: Store, key: str, expect: list[tuple[str, int]], won: list[str]) -> None:
    try:
        store.write({key: b"x"}, expect)
    except Conflict:
        return
    won.append(key)
