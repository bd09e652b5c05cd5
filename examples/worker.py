"""A task queue: clients send tasks with priorities, and a worker executes them.

python examples/worker.py [URL]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from kombu_core import Connection, Consumer, Exchange, Message, Queue
from kombu_core.mixins import ConsumerMixin
from kombu_core.pools import producers, reset
from kombu_core.transport import Channel

TASKS = Queue("worker_tasks", Exchange("worker"), routing_key="tasks", max_priority=10)
PRIORITIES = {"high": 9, "mid": 5, "low": 1}


def hello(who: str = "world") -> None:
    """Be executed by the worker."""
    print(f"hello {who}")


FUNCTIONS = {"hello": hello}


def send(connection: Connection, function: str, *args: Any, priority: str = "mid") -> None:
    """Let the worker call a function; several threads may send at once."""
    with producers[connection].acquire(block=True) as producer:
        producer.publish(
            {"function": function, "args": args},
            exchange=TASKS.exchange,
            routing_key=TASKS.routing_key,
            priority=PRIORITIES[priority],
            compression="bzip2",
            declare=[TASKS],
        )


class Worker(ConsumerMixin):
    """Executes tasks; stops after some of them, as this is an example."""

    def __init__(self, connection: Connection, count: int) -> None:
        self.connection = connection
        self.left = count

    def get_consumers(
        self,
        Consumer: Callable[..., Consumer],  # noqa: N803
        channel: Channel,
    ) -> list[Consumer]:
        """Consume tasks, one at a time, written in JSON."""
        return [Consumer([TASKS], callbacks=[self.process], accept=["json"], prefetch_count=1)]

    def process(self, body: dict[str, Any], message: Message) -> None:
        """Execute one task; one that fails is reported, and not tried again."""
        try:
            FUNCTIONS[body["function"]](*body["args"])
        except Exception as error:  # noqa: BLE001 (whatever a task raises)
            print("task raised", repr(error))
        message.ack()
        self.left -= 1
        self.should_stop = self.left == 0


def main(url: str) -> None:
    """Send three tasks and one that fails, and work until they are done."""
    with Connection(url) as connection:
        connection.connect()
        send(connection, "hello", "low", priority="low")
        send(connection, "hello", "mid")
        send(connection, "hello", "high", priority="high")
        send(connection, "hello", "too", "many")
        Worker(connection, count=4).run(safety_interval=0.1)
        reset()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
