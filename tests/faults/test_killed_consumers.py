"""A consumer is killed with SIGKILL at any moment: the next one handles everything it left."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kombu_core import Connection, Message, Queue
from kombu_core.testing.server import BrokerServer

COUNT = 1000
#: Seconds; the messages of a dead consumer are with another one within it.
LEASE = 1.0
OPTIONS = {"lease": LEASE}
PATIENCE = 3 * LEASE
WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture
def connection(redis_server: BrokerServer, token: str) -> Iterator[Connection]:
    with Connection(redis_server.url, transport_options={**OPTIONS, "prefix": token}) as connection:
        yield connection


def start_worker(server: BrokerServer, token: str, handled: Path) -> subprocess.Popen[str]:
    options = json.dumps({**OPTIONS, "prefix": token})
    worker = subprocess.Popen(
        [sys.executable, WORKER, server.url, "work", handled, str(PATIENCE), options],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


@pytest.mark.parametrize("seed", range(4))
def test_everything_is_handled_whenever_it_dies(
    connection: Connection, redis_server: BrokerServer, token: str, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    handled = tmp_path / "handled"
    queue = Queue("work")(connection)
    queue.declare()
    connection.Producer(routing_key="work").publish_many(str(number) for number in range(COUNT))

    for _ in range(4):
        with start_worker(redis_server, token, handled) as worker:
            time.sleep(chance.uniform(0.0, 0.06))  # The moment of death, not a wait for anything.
            worker.kill()
    with start_worker(redis_server, token, handled) as worker:
        assert worker.wait(60) == 0

    done = [int(line) for line in handled.read_text().splitlines()]
    assert set(done) == set(range(COUNT))
    # At least once: no more than what each dead worker had in flight is handled again.
    assert len(done) - COUNT <= 4 * (50 + 64)
    assert queue.queue_declare(passive=True).message_count == 0
    assert queue.get() is None


def test_what_it_held_is_with_another_within_the_lease(
    connection: Connection, redis_server: BrokerServer, token: str, tmp_path: Path
) -> None:
    queue = Queue("work")(connection)
    queue.declare()
    with start_worker(redis_server, token, tmp_path / "handled") as worker:
        worker.send_signal(signal.SIGSTOP)
        connection.Producer(routing_key="work").publish_many(str(number) for number in range(40))
        worker.send_signal(signal.SIGCONT)
        time.sleep(0.002)
        worker.kill()
    died = time.monotonic()
    found = set((tmp_path / "handled").read_text().split())

    def handle(message: Message) -> None:
        found.add(message.body.decode())
        message.ack()

    with connection.Consumer([Queue("work")], on_message=handle):
        while len(found) < 40:
            connection.drain_events(timeout=2 * LEASE)
    assert time.monotonic() - died <= LEASE + 1
