"""A producer and a consumer of media files: the program of the README, on any broker.

python examples/media.py both     memory://
python examples/media.py consumer redis://localhost:6379/0     # in one terminal
python examples/media.py producer redis://localhost:6379/0     # in another one
"""

from __future__ import annotations

import argparse
from typing import Any

from kombu_core import Connection, Consumer, Exchange, Message, Producer, Queue

media = Exchange("media", "direct", durable=True)
video = Queue("video", exchange=media, key="video")
image = Queue("image", exchange=media, routing_key="image")


def produce(connection: Connection, count: int) -> None:
    """Publish `count` messages, alternately to both queues; each is confirmed."""
    channel = connection.channel()
    producer = Producer(channel, exchange=media, serializer="json")
    for number in range(count):
        kind = "video" if number % 2 == 0 else "image"
        producer.publish(
            {"name": f"lolcat{number}.{kind}", "size": 1301013},
            routing_key=kind,
            declare=[video, image],
        )
    print(f"published {count} messages")


def consume(connection: Connection, count: int, patience: float) -> int:
    """Handle messages until there were `count`, or nothing came for `patience` seconds."""
    handled = 0

    def process_media(body: dict[str, Any], message: Message) -> None:
        nonlocal handled
        handled += 1
        if handled <= 3 or handled == count:
            print(f"  {message.delivery_info['routing_key']}: {body['name']}")
        elif handled == 4:
            print("  …")
        message.ack()

    channel = connection.channel()
    consumer = Consumer(channel, [video, image], prefetch_count=100)
    consumer.register_callback(process_media)
    consumer.consume()
    try:
        while handled < count:
            connection.drain_events(timeout=patience)
    except TimeoutError:
        print(f"nothing came for {patience} s")
    print(f"consumed {handled} messages")
    return handled


def main() -> int:
    """Run one role or both; the exit code tells whether everything was consumed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("role", choices=["producer", "consumer", "both"])
    parser.add_argument("url", help="as memory:// or redis://localhost:6379/0")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--patience", type=float, default=10.0, help="seconds without a message")
    options = parser.parse_args()
    with Connection(options.url) as connection:
        print(f"{options.role} on {connection.as_uri()}")
        if options.role != "consumer":
            produce(connection, options.count)
        if options.role != "producer":
            return int(consume(connection, options.count, options.patience) != options.count)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
