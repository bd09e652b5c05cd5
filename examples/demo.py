"""The tour of `make demo`: inside one process, then between real processes, on two brokers.

The first part is this process alone. The second one needs no server either: a producer and two
consumers share a SQLite file, and one of the consumers is killed in the middle of its work. The
third one is the second on a private redis-server, if there is one.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kombu_core import Connection, Consumer, Message, Producer
from kombu_core.testing.brokers import BrokerMissingError, RedisServer

sys.path.insert(0, str(Path(__file__).parent))
import media
from progress import Progress

#: Seconds after which the messages of a killed consumer are with another one.
LEASE = 2.0
COUNT = 2000


def in_this_process() -> None:
    """Publish and consume on memory://."""
    print("== memory://, one process")
    with Connection("memory://demo") as connection:
        media.produce(connection, 10)
        if media.consume(connection, 10, patience=1.0) != 10:
            raise SystemExit("not everything came")


def between_processes(url: str) -> None:
    """Publish here, consume in another process, kill that, and finish here."""
    with Connection(url) as connection:
        producer = Producer(connection, exchange=media.media, serializer="json")
        progress = Progress("published", COUNT)
        for number in range(COUNT):
            producer.publish(
                {"name": f"lolcat{number}.avi"}, routing_key="video", declare=[media.video]
            )
            progress.show(number + 1)
        doomed = subprocess.Popen([sys.executable, __file__, "--slowly", url])
        while media.video(connection).queue_declare(passive=True).message_count == COUNT:
            time.sleep(0.01)
        doomed.send_signal(signal.SIGKILL)
        doomed.wait()
        left = media.video(connection).queue_declare(passive=True).message_count
        print(f"killed a consumer with kill -9; {COUNT - left} of its messages were in flight")
        seen: set[str] = set()
        again = 0
        progress = Progress("consumed", COUNT)

        def handle(body: dict[str, str], message: Message) -> None:
            nonlocal again
            seen.add(body["name"])
            again += message.delivery_info["redelivered"]
            message.ack()
            progress.show(len(seen))

        with Consumer(connection, [media.video], callbacks=[handle], prefetch_count=100):
            while len(seen) < COUNT:
                connection.drain_events(timeout=5 * LEASE)
        print(f"another consumer handled all {len(seen)}, {again} of them redelivered")


def consume_slowly(url: str) -> None:
    """Take messages and never acknowledge: the consumer that gets killed."""
    with (
        Connection(url) as connection,
        Consumer(connection, [media.video], on_message=lambda message: None, prefetch_count=100),
    ):
        while True:
            connection.drain_events(timeout=60)


def main() -> int:
    """Run all parts."""
    if sys.argv[1:2] == ["--slowly"]:
        consume_slowly(sys.argv[2])
    in_this_process()
    with tempfile.TemporaryDirectory() as directory:
        print("\n== sqlalchemy+sqlite:///, three processes and a file: one of them dies")
        between_processes(f"sqlalchemy+sqlite:///{directory}/demo.db?kombu_lease={LEASE}")
    try:
        with RedisServer() as server:
            print("\n== redis://, the same")
            between_processes(f"{server.url}?lease={LEASE}")
    except BrokerMissingError as missing:
        print(f"== left out: {missing}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
