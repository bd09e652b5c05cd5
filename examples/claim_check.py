"""A body that is too large for a broker waits in a directory; the message says where.

    python examples/claim_check.py [URL]

Without a URL it runs in the memory of this process.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from kombu_core import Connection, Message, Queue
from kombu_core.claims import ClaimCheck, DirectoryClaims
from kombu_core.serialization import Registry

videos = Queue("claim_check_example", durable=False)


def main(url: str, directory: str) -> None:
    """Publish 4 MiB, look at what travels, and clean up behind the consumer."""
    store = DirectoryClaims(directory)
    claims = ClaimCheck("raw", store, above=64 * 1024)
    registry = Registry()
    registry.add("video", claims.serializer)

    def receive(body: bytes, message: Message) -> None:
        print(f"received {len(body)} bytes in a message of {len(message.body)}")
        message.ack()
        claims.discard(message)

    with Connection(url) as connection:
        producer = connection.Producer(serializer="video", registry=registry)
        producer.publish(bytes(4 * 1024 * 1024), videos.name, declare=[videos])
        with connection.Consumer([videos], callbacks=[receive], registry=registry):
            connection.drain_events(timeout=5)
        videos(connection).delete()
    # What was published and never consumed goes with age.
    print(
        f"swept {store.sweep(max_age=7 * 24 * 3600)}, left {len(list(Path(directory).iterdir()))}"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as shared:
        main(sys.argv[1] if len(sys.argv) > 1 else "memory://", shared)
