"""Another process on the same broker, commanded line by line: both ends of the pipe.

Run as a program it opens one connection and one channel and obeys JSON lines from its standard
input until that ends. `Peer` is the test's end.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

from kombu_core.testing.harness import DEADLINE, BrokerUnderTest, open_connection, publish


class PeerError(Exception):
    """The other process answered with an error; the text is `Type: message`."""


class Peer:
    """The other process, as a test sees it. Close it or kill it."""

    def __init__(self, broker: BrokerUnderTest) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kombu_core.testing.peer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._answers = b""
        self._ask([broker.connection_class, broker.url, dict(broker.transport_options)])

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the other process's channel and return its JSON answer."""
        return self._ask([method, args, kwargs])

    def pause(self) -> None:
        """Stop it where it is, as a machine that sleeps."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on as if nothing had been."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it by SIGKILL: nothing is closed, nothing is settled."""
        self._process.kill()
        self._end()

    def close(self) -> None:
        """Let it end properly; kill it if it will not. Idempotent."""
        self.resume()
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._end()

    def _end(self) -> None:
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass

    def _ask(self, command: list[Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._read_line())
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer["value"]

    def _read_line(self) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + 2 * DEADLINE
        while b"\n" not in self._answers:
            left = max(deadline - time.monotonic(), 0.0)
            if not select.select([self._process.stdout], [], [], left)[0]:
                raise PeerError("TimeoutError: no answer from the other process")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                raise PeerError("EOFError: the other process ended")
            self._answers += piece
        line, _, self._answers = self._answers.partition(b"\n")
        return line


def main() -> None:
    """Obey the lines on the standard input."""
    connection_class, url, options = json.loads(sys.stdin.readline())
    connection = open_connection(connection_class, url, options)
    channel = connection.channel()
    _answer({"value": "ready"})
    for line in sys.stdin:
        method, args, kwargs = json.loads(line)
        try:
            if method == "publish":
                publish(channel, *args, **kwargs)
                value: Any = None
            elif method == "basic_get":
                message = channel.basic_get(*args, **kwargs)
                value = message and [message.body.decode(), message.redelivered]
            elif method == "basic_consume":
                value = channel.basic_consume(args[0], lambda message: None, **kwargs)
            else:
                value = getattr(channel, method)(*args, **kwargs)
        except Exception as exc:  # noqa: BLE001  (it is the other process that judges)
            _answer({"error": f"{type(exc).__name__}: {exc}"})
        else:
            _answer({"value": value})
    connection.release()


def _answer(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201  (the pipe to the test)


if __name__ == "__main__":
    main()
