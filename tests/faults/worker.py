"""A consumer process for the fault tests: writes down what it handled, then acknowledges it.

    python worker.py URL QUEUE FILE LIMIT OPTIONS

Each handled body is a line of FILE, written before its ack, so what was acknowledged is always in
it. Ends after LIMIT seconds without a message.
"""

from __future__ import annotations

import json
import os
import sys

from kombu_core import Connection, Consumer, Message, Queue


def main() -> None:
    """Consume until nothing comes."""
    url, queue, path, limit, options = sys.argv[1:]
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def handle(message: Message) -> None:
        os.write(file, message.body + b"\n")
        message.ack()

    connection = Connection(url, transport_options=json.loads(options))
    with (
        connection,
        Consumer(connection, [Queue(queue)], on_message=handle, prefetch_count=50),
    ):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            try:
                connection.drain_events(timeout=float(limit))
            except TimeoutError:
                return


if __name__ == "__main__":
    main()
