"""The logical clock and the events that it orders."""

from __future__ import annotations

import copy
import heapq
import pickle
import threading

from kombu_core.clocks import LamportClock, timetuple


def test_the_clock_steps_forward_and_past_what_it_is_told() -> None:
    clock = LamportClock(3)
    assert clock.forward() == 4
    assert clock.adjust(10) == 11
    assert clock.adjust(2) == 12
    assert (clock.value, str(clock), repr(clock)) == (12, "12", "<LamportClock: 12>")


def test_threads_do_not_lose_a_step() -> None:
    clock = LamportClock()

    def step() -> None:
        for _ in range(2000):
            clock.forward()

    threads = [threading.Thread(target=step) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.value == 8000


def test_the_first_event_of_a_heap_is_decided_by_clock_then_process() -> None:
    clock = LamportClock()
    assert clock.sort_heap([(1, "b"), (2, "a")]) == (1, "b")
    assert clock.sort_heap([(1, "b"), (1, "a"), (2, "0")]) == (1, "a")
    assert clock.sort_heap([(7, "only", "more")]) == (7, "only", "more")


def test_events_are_ordered_by_clock_process_or_time() -> None:
    early, late = timetuple(1, 9.0, "b", {}), timetuple(2, 1.0, "a", {})
    assert early < late
    assert late > early
    assert early <= late
    assert late >= early
    assert timetuple(1, 9.0, "a") < early
    assert timetuple(0, 1.0, "z") < early < timetuple(None, 10.0, "a")
    heap = [late, early]
    heapq.heapify(heap)
    assert heapq.heappop(heap) is early


def test_an_event_is_a_value() -> None:
    event = timetuple(1, 2.5, "host:1", "what")
    assert (event.clock, event.timestamp, event.id, event.obj) == (1, 2.5, "host:1", "what")
    assert pickle.loads(pickle.dumps(event)) == copy.copy(event) == event
    assert "host:1" in repr(event)
