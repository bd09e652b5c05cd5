"""Each example is a program that ends well, in this process' memory and on a real broker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kombu_core.testing.brokers import BrokerServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

#: What each prints, last.
LAST_LINES = {
    "broadcast.py": "listener 2: it works",
    "claim_check.py": "swept 0, left 0",
    "connection_pools.py": "replaced: True",
    "hello_world.py": "received: helloworld",
    "logical_clock.py": "2 bob heard",
    "remote_control.py": "wrong: [{'worker1': {'error':",
    "retries.py": "given up: 3 after ConnectionError: the bank does not answer",
    "rpc.py": "There was no reply from 'fibonacci' within 0.2 s",
    "rpc_by_hand.py": " [.] got 6765",
    "signing.py": "refused: The signature is not right",
    "simple_queue.py": "progress: 100 %",
    "topology.py": "queue 'topology_example.lost': nothing matches",
    "typed_messages.py": "refused: items[0].name: it is missing",
    "worker.py": "hello low",
}
#: Programs with tests of their own, and what they share.
OTHERS = {"demo.py", "media.py", "progress.py"}


def run(example: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / example, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.rstrip("\n").rpartition("\n")[2]
    assert last.startswith(LAST_LINES[example]), done.stdout
    return done.stdout


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == LAST_LINES.keys() | OTHERS


@pytest.mark.parametrize("example", LAST_LINES)
def test_an_example_runs_in_memory(example: str) -> None:
    run(example)


@pytest.mark.parametrize("example", LAST_LINES)
def test_an_example_runs_on_redis(example: str, redis_server: BrokerServer) -> None:
    run(example, redis_server.url)


def test_the_worker_executes_by_priority() -> None:
    said = [line for line in run("worker.py").splitlines() if line.startswith("hello")]
    assert said == ["hello high", "hello mid", "hello low"]
