"""A logical clock orders the events of several processes, whatever their wall clocks say.

python examples/logical_clock.py [URL]
"""

from __future__ import annotations

import heapq
import sys

from kombu_core import Connection, Queue
from kombu_core.clocks import LamportClock, timetuple
from kombu_core.patterns import itermessages

QUEUE = Queue("logical_clock_example")


def main(url: str) -> None:
    """Send an event with a stamp, answer it, and put both into order."""
    alice, bob = LamportClock(), LamportClock()
    events: list[timetuple] = []
    with Connection(url) as connection:
        stamp = alice.forward()
        events.append(timetuple(stamp, 1000.0, "alice", "asked"))
        connection.Producer().publish(
            "how are you?", QUEUE.name, headers={"clock": stamp}, declare=[QUEUE]
        )
        for _, message in itermessages(connection, None, QUEUE, limit=1, timeout=5):
            # Bob's wall clock is late; his logical clock is not.
            stamp = bob.adjust(message.headers["clock"])
            events.append(timetuple(stamp, 1.0, "bob", "heard"))
            message.ack()
    heapq.heapify(events)
    while events:
        event = heapq.heappop(events)
        print(event.clock, event.id, event.obj)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
