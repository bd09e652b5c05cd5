"""A queue of a broker as if it were a `queue.Queue`: put, get, timeouts, iteration.

python examples/simple_queue.py [URL]
"""

from __future__ import annotations

import sys
from queue import Empty

from kombu_core import Connection


def main(url: str) -> None:
    """Put some jobs, get them, and see what an empty queue does."""
    with Connection(url) as connection, connection.SimpleQueue("simple_queue_jobs") as jobs:
        for number in range(5):
            jobs.put({"job": number}, compression="zlib")
        print("waiting:", jobs.qsize())

        first = jobs.get(timeout=1)
        print("got:", first.payload)
        first.ack()

        for message in jobs:
            print("iterated:", message.payload)
            message.ack()

        try:
            jobs.get(timeout=0.1)
        except Empty:
            print("empty after 0.1 s")
        else:
            raise SystemExit("there was one more")

        # Goes with the connection, and acknowledges nothing.
        with connection.SimpleBuffer("simple_queue_progress") as progress:
            progress.put("100 %")
            print("progress:", progress.get(timeout=1).payload)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
