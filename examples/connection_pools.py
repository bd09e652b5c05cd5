"""Pools: threads that publish share a few connections, and a broken one is replaced.

python examples/connection_pools.py [URL]
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from kombu_core import Connection, Queue
from kombu_core.exceptions import LimitExceededError
from kombu_core.pools import connections, producers, reset, set_limit

QUEUE = Queue("connection_pools_example")


def main(url: str) -> None:
    """Publish from eight threads over three connections."""
    set_limit(3)
    with Connection(url) as connection:
        QUEUE(connection).declare()

        def publish(number: int) -> None:
            with producers[connection].acquire(block=True, timeout=10) as producer:
                producer.publish({"number": number}, routing_key=QUEUE.name)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(publish, range(100)))
        print("in the queue:", QUEUE(connection).purge())

        pool = connections[connection]
        with pool.acquire() as first, pool.acquire(), pool.acquire():
            try:
                pool.acquire(block=True, timeout=0.1)
            except LimitExceededError as error:
                print(error)
            first.transport.close()  # It breaks, for whatever reason.
        with pool.acquire() as another:
            print("replaced:", another is not first)
        reset()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
