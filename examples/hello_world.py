"""The smallest program: put a greeting into a queue, and get it out again.

python examples/hello_world.py [URL]
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from kombu_core import Connection


def main(url: str) -> None:
    """Send and receive."""
    with Connection(url) as connection:
        with connection.SimpleQueue("hello_world") as queue:
            queue.put(f"helloworld, sent at {datetime.now(UTC):%X}")
            print("sent")
        with connection.SimpleQueue("hello_world") as queue:
            message = queue.get(block=True, timeout=1)
            print("received:", message.payload)
            message.ack()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
