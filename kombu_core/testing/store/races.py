"""Several at once: what has to be one step is one step."""

from __future__ import annotations

import threading

from kombu_core.testing.harness import DEADLINE, run_threads
from kombu_core.testing.store.fixtures import ME, ack, bodies, claim, put
from kombu_core.virtual.store import Conflict, Store

#: How often each thread tries.
ROUNDS = 20


class RaceContract:
    """Two handles, used by two threads at the same time."""

    def test_a_message_is_claimed_by_one_only(self, store: Store, other: Store) -> None:
        other.begin("you", 60.0)
        put(store, *map(str, range(2 * ROUNDS)))
        had: dict[str, list[str]] = {ME: [], "you": []}

        def work(handle: Store, session: str) -> None:
            while claimed := claim(handle, 2, session=session):
                had[session] += bodies(claimed)
                assert not ack(handle, *claimed, session=session).lost

        run_threads([lambda: work(store, ME), lambda: work(other, "you")])
        assert sorted(map(int, had[ME] + had["you"])) == [*range(2 * ROUNDS)]

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

    def test_one_handle_is_used_by_two_threads(self, store: Store) -> None:
        def work(queue: str) -> None:
            for number in range(ROUNDS):
                put(store, str(number), queue=queue)
                assert bodies(claim(store, 1, queue=queue)) == [str(number)]

        run_threads([lambda: work("a"), lambda: work("b")])
        assert store.count("a") == store.count("b") == (0, ROUNDS, 0)
