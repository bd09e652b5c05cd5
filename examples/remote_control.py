"""Remote control of running processes: a mailbox with two nodes, commands and replies.

python examples/remote_control.py [URL]
"""

from __future__ import annotations

import sys
import threading

from kombu_core import Connection
from kombu_core.patterns import eventloop
from kombu_core.pidbox import Mailbox

MAILBOX = Mailbox("remote_control_example", type="fanout")


class Process:
    """What is controlled; in real life a program of its own, with one node."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection = connection
        self.level = "info"
        self.is_told_to_stop = False
        node = MAILBOX(connection).Node(name, state=self, channel=connection.channel())

        @node.handler
        def ping(state: Process) -> str:
            return "pong"

        @node.handler
        def log_level(state: Process, level: str) -> dict[str, str]:
            before, state.level = state.level, level
            return {"was": before}

        @node.handler
        def stop(state: Process) -> None:
            state.is_told_to_stop = True

        node.listen()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        """Work; commands are handled in between."""
        for _ in eventloop(self.connection, timeout=0.1, ignore_timeouts=True):
            if self.is_told_to_stop:
                return


def main(url: str) -> None:
    """Control two processes."""
    with Connection(url) as first, first.clone() as second, first.clone() as here:
        processes = [Process(first, "worker1"), Process(second, "worker2")]
        mailbox = MAILBOX(here)
        print("all:", mailbox.multi_call("ping", timeout=5, limit=2))
        print("one:", mailbox.call(["worker2"], "log_level", {"level": "debug"}, timeout=5))
        print("wrong:", mailbox.call(["worker1"], "log_level", {"volume": 11}, timeout=5))
        mailbox.abcast("stop")
        for process in processes:
            process.thread.join()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
