"""News for everybody who listens now: each listener has a queue of its own.

python examples/broadcast.py [URL]
"""

from __future__ import annotations

import sys

from kombu_core import Connection, Exchange
from kombu_core.patterns import Broadcast, itermessages

NEWS = "broadcast_example"


def main(url: str) -> None:
    """Publish once, and let three listeners get it."""
    with Connection(url) as connection:
        listeners = [Broadcast(NEWS) for _ in range(3)]
        for listener in listeners:
            listener(connection).declare()
        connection.Producer().publish({"headline": "it works"}, exchange=Exchange(NEWS, "fanout"))
        for number, listener in enumerate(listeners):
            for body, message in itermessages(connection, None, listener, limit=1, timeout=5):
                print(f"listener {number}:", body["headline"])
                message.ack()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
