"""Remote procedure calls from producers and consumers alone: what `kombu_core.rpc` is made of.

python examples/rpc_by_hand.py [URL]
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from kombu_core import Connection, Consumer, Message, Producer, Queue
from kombu_core.mixins import ConsumerProducerMixin
from kombu_core.patterns import send_reply
from kombu_core.transport import Channel

REQUESTS = Queue("rpc_by_hand")


class Server(ConsumerProducerMixin):
    """Answers with Fibonacci numbers."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def get_consumers(
        self,
        Consumer: Callable[..., Consumer],  # noqa: N803
        channel: Channel,
    ) -> list[Consumer]:
        """Consume requests."""
        return [Consumer([REQUESTS], on_message=self.on_request, accept=["json"], prefetch_count=1)]

    def on_request(self, message: Message) -> None:
        """Answer one, to where it says."""
        n = message.payload["n"]
        print(f" [.] fib({n})")
        send_reply("", message, {"result": fib(n)}, self.producer, retry=True)
        message.ack()


def fib(n: int) -> int:
    """Compute it the slow way."""
    return n if n < 2 else fib(n - 1) + fib(n - 2)


class Client:
    """Sends a request, and drains the connection until its answer is there."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.replies = Queue(f"rpc_by_hand.{uuid4()}", exclusive=True)
        self.answers: dict[str, Any] = {}

    def on_reply(self, message: Message) -> None:
        """Keep an answer."""
        self.answers[message.properties["correlation_id"]] = message.payload["result"]

    def call(self, n: int) -> Any:
        """Ask for the n-th number."""
        ident = str(uuid4())
        with Consumer(self.connection, [self.replies], on_message=self.on_reply, no_ack=True):
            Producer(self.connection).publish(
                {"n": n},
                exchange="",
                routing_key=REQUESTS.name,
                declare=[REQUESTS],
                reply_to=self.replies.name,
                correlation_id=ident,
            )
            while ident not in self.answers:
                self.connection.drain_events(timeout=10)
        return self.answers.pop(ident)


def main(url: str) -> None:
    """Run a server in a thread, and ask it."""
    with Connection(url) as connection:
        connection.connect()
        server = Server(connection)
        thread = threading.Thread(target=server.run, kwargs={"safety_interval": 0.1})
        thread.start()
        try:
            print(" [x] requesting fib(20)")
            print(f" [.] got {Client(connection).call(20)}")
        finally:
            server.should_stop = True
            thread.join()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
