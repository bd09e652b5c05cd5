"""How fast an idle consumer wakes, and what it costs while nothing comes."""

from __future__ import annotations

import threading
import time
from typing import Any

import kombu_core


def wake_up(url: str, **options: Any) -> float:
    """Seconds from a publish to the callback of an idle consumer in this process: the median."""
    taken: list[float] = []
    received = threading.Event()

    def on_message(message: kombu_core.Message) -> None:
        taken.append(time.perf_counter() - float(message.body))
        received.set()

    def consume() -> None:
        with kombu_core.Connection(url, transport_options=options) as connection:
            queue = kombu_core.Queue("wake")
            with connection.Consumer([queue], on_message=on_message, no_ack=True):
                received.set()
                while len(taken) < 30:
                    connection.drain_events(timeout=10)

    thread = threading.Thread(target=consume)
    thread.start()
    with kombu_core.Connection(url, transport_options=options) as connection:
        producer = connection.Producer()
        for _ in range(30):
            received.wait()
            received.clear()
            time.sleep(0.1)  # Let the consumer fall asleep.
            producer.publish(str(time.perf_counter()), "wake")
        thread.join()
    return sorted(taken)[len(taken) // 2]


def idle_seconds(url: str) -> float:
    """Processor seconds of this process while a consumer waits for 5 seconds."""
    with kombu_core.Connection(url) as connection:
        queue = kombu_core.Queue("idle")
        with connection.Consumer([queue], on_message=print, no_ack=True):
            started = time.process_time()
            try:
                connection.drain_events(timeout=5)
            except TimeoutError:
                pass
            return time.process_time() - started
