"""The tour of `make demo`: the same program inside one process, then between real processes.

The first part needs no server. The second one starts a private redis-server, a producer, and a
consumer that is killed in the middle of its work; another consumer gets what it left.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from kombu_core import Connection, Consumer, Message, Producer
from kombu_core.testing.brokers import BrokerMissingError, RedisServer

sys.path.insert(0, str(Path(__file__).parent))
import media

#: Seconds after which the messages of a killed consumer are with another one.
LEASE = 2.0
COUNT = 1000


def in_this_process() -> None:
    """Publish and consume on memory://, no server anywhere."""
    print("== memory://, one process")
    with Connection("memory://demo") as connection:
        media.produce(connection, 10)
        if media.consume(connection, 10, patience=1.0) != 10:
            raise SystemExit("not everything came")


def between_processes(url: str) -> None:
    """Publish here, consume in another process, kill that, and finish in a third."""
    print("== redis://, a consumer that dies")
    with Connection(url) as connection:
        producer = Producer(connection, exchange=media.media, serializer="json")
        with producer.batch():
            for number in range(COUNT):
                producer.publish(
                    {"name": f"lolcat{number}.avi"}, routing_key="video", declare=[media.video]
                )
        print(f"published {COUNT} messages")
        doomed = subprocess.Popen([sys.executable, __file__, "--slowly", url])
        while media.video(connection).queue_declare(passive=True).message_count == COUNT:
            time.sleep(0.01)
        doomed.send_signal(signal.SIGKILL)
        doomed.wait()
        left = media.video(connection).queue_declare(passive=True).message_count
        print(f"killed a consumer with kill -9; {COUNT - left} of its messages were in flight")
        started = time.monotonic()
        seen: set[str] = set()
        again = 0

        def handle(body: dict[str, str], message: Message) -> None:
            nonlocal again
            seen.add(body["name"])
            again += message.delivery_info["redelivered"]
            message.ack()

        with Consumer(connection, [media.video], callbacks=[handle], prefetch_count=100):
            while len(seen) < COUNT:
                connection.drain_events(timeout=5 * LEASE)
        print(
            f"another consumer handled all {len(seen)}, {again} of them redelivered, "
            f"in {time.monotonic() - started:.1f} s"
        )


def consume_slowly(url: str) -> None:
    """Take messages and never acknowledge: the consumer that gets killed."""
    with (
        Connection(url) as connection,
        Consumer(connection, [media.video], on_message=lambda message: None, prefetch_count=100),
    ):
        while True:
            connection.drain_events(timeout=60)


def main() -> int:
    """Run both parts, the second one if there is a redis-server."""
    if sys.argv[1:2] == ["--slowly"]:
        consume_slowly(sys.argv[2])
    in_this_process()
    try:
        with RedisServer() as server:
            between_processes(f"{server.url}?lease={LEASE}")
    except BrokerMissingError as missing:
        print(f"== the second part is left out: {missing}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
