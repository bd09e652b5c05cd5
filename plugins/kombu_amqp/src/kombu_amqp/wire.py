"""The socket of one connection, and whose turn it is to read from it.

One lock guards everything of a connection: its socket, the driver's state, and the books about
messages. It is held to compute, and never while a thread waits. Of the threads that wait for
something at the same time, one reads the socket for all (it leads) and wakes each of the others
when what that waits for has come; who leaves hands the lead to another. So there is no thread in
between when there is only one, and nobody waits for the socket behind somebody who does not leave.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from kombu_amqp.errors import again
from kombu_amqp.frames import FrameReader
from kombu_core.exceptions import BrokerError, ConnectError, ConnectionLostError

#: Bytes asked for at once.
_CHUNK: Final = 262144
#: Seconds between two attempts to send, of a thread that does not read.
_OUTPUT_SLICE: Final = 0.01

Condition = Callable[[], object]
FrameCallback = Callable[[int, int, bytes], object]


class _Follower:
    """A thread that waits while another one reads."""

    __slots__ = ("done", "signal")

    def __init__(self, done: Condition) -> None:
        self.done = done
        self.signal = threading.Lock()
        self.signal.acquire()

    def wake(self) -> None:
        if self.signal.locked():
            self.signal.release()


class Wire:
    """One connection's bytes. Hold `lock` around every method but `dial`.

    Args:
        on_frame: Called with each frame that comes, the lock held.
        on_lost: Called once when the connection is found broken or is closed, the lock held.
    """

    def __init__(self, on_frame: FrameCallback, on_lost: Callable[[BrokerError], object]) -> None:
        self.lock = threading.Lock()
        #: Why nothing goes any more; None while it does.
        self.error: BrokerError | None = None
        #: When bytes came and went last (monotonic seconds).
        self.last_received = self.last_sent = monotonic()
        #: The broker's reason for taking no messages now (connection.blocked); None: it takes them.
        self.blocked: str | None = None
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._reader = FrameReader()
        self._socket: socket.socket | None = None
        self._out: deque[bytes | memoryview] = deque()
        self._is_led = False
        self._followers: list[_Follower] = []

    # -- opening and closing ---------------------------------------------------------------

    def dial(
        self, host: str, port: int, tls: ssl.SSLContext | None, server_name: str, timeout: float
    ) -> None:
        """Connect, with TLS if there is a context.

        Raises:
            ConnectError: It cannot be reached within `timeout` seconds, or is not whom it claims.
        """
        deadline = monotonic() + timeout
        try:
            link = socket.create_connection((host, port), timeout)
            try:
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                if tls is not None:
                    link.settimeout(max(0.001, deadline - monotonic()))
                    link = tls.wrap_socket(link, server_hostname=server_name)
                link.setblocking(False)
            except BaseException:
                link.close()
                raise
        except (OSError, ssl.SSLError, ValueError) as exc:
            raise ConnectError(f"Cannot connect to {host}:{port}: {exc}") from exc
        self._socket = link
        self.last_received = self.last_sent = monotonic()

    def lose(self, error: BrokerError) -> None:
        """End the connection, because of `error`; everybody who waits gets it. Idempotent."""
        if self.error is not None:
            return
        self.error = error
        self._out.clear()
        link = self._socket
        if link is not None:
            try:
                link.shutdown(socket.SHUT_RDWR)  # wakes who reads
            except OSError:
                pass
            if not self._is_led:
                self._hang_up()
        self._on_lost(error)
        for follower in self._followers:
            follower.wake()

    def _hang_up(self) -> None:
        link, self._socket = self._socket, None
        if link is not None:
            link.close()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's socket without a word on it."""
        self._hang_up()

    def raise_lost(self) -> None:
        """Raise if the connection is gone."""
        if self.error is not None:
            raise again(self.error) from self.error

    # -- writing ---------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Put bytes behind those that wait to be sent."""
        self._out.append(data)

    @property
    def has_output(self) -> bool:
        """Whether bytes wait to be sent."""
        return bool(self._out)

    def flush(self) -> None:
        """Send what the socket takes now."""
        out, link = self._out, self._socket
        if not out or link is None:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        try:
            sent = link.send(data)
            while sent < len(data):
                data = memoryview(data)[sent:]
                sent = link.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            # TLS has to be given the same bytes again, so they stay in one piece.
            out.append(data)
        except OSError as exc:
            self.lose(ConnectionLostError(f"The connection broke: {exc}"))
            return
        self.last_sent = monotonic()

    # -- waiting ---------------------------------------------------------------------------

    def wait(self, done: Condition, deadline: float | None = None) -> bool:
        """Send what waits, and read until `done` is true; tell whether it came true in time.

        The lock is let go while nothing comes. `done` is called with it held.

        Raises:
            ConnectionLostError: The connection broke, or was closed.
        """
        self.flush()
        if done():
            return True
        return self._follow(done, deadline) if self._is_led else self._lead(done, deadline)

    def _lead(self, done: Condition, deadline: float | None) -> bool:
        self._is_led = True
        try:
            while True:
                self.raise_lost()
                if self._poll(deadline):
                    self._receive()
                    for follower in self._followers:
                        if follower.done():
                            follower.wake()
                if done():
                    return True
                if deadline is not None and monotonic() >= deadline:
                    self.raise_lost()
                    return False
        finally:
            self._is_led = False
            if self.error is not None:
                self._hang_up()
            self._hand_over()

    def _follow(self, done: Condition, deadline: float | None) -> bool:
        me = _Follower(done)
        self._followers.append(me)
        try:
            while True:
                left = -1.0 if deadline is None else max(0.0, deadline - monotonic())
                if self._out:
                    # Who leads may wait for nothing but bytes to read.
                    self.flush()
                    left = _OUTPUT_SLICE if left < 0 else min(left, _OUTPUT_SLICE)
                self.lock.release()
                try:
                    me.signal.acquire(timeout=left)
                finally:
                    self.lock.acquire()
                if done():
                    return True
                self.raise_lost()
                if not self._is_led:
                    break
                if deadline is not None and monotonic() >= deadline:
                    return False
        finally:
            self._followers.remove(me)
            if not self._is_led:
                self._hand_over()
        return self._lead(done, deadline)

    def _hand_over(self) -> None:
        if self._followers:
            self._followers[0].wake()

    def _poll(self, deadline: float | None) -> bool:
        """Wait for the socket without the lock; tell whether there is something to read."""
        link = self._socket
        if link is None:
            return False
        if isinstance(link, ssl.SSLSocket) and link.pending():
            return True
        timeout = None if deadline is None else max(0.0, deadline - monotonic())
        wants_out = bool(self._out)
        self.lock.release()
        try:
            readable, writable = _ready(link, wants_out, timeout)
        finally:
            self.lock.acquire()
        if writable or self._out:
            self.flush()
        return readable

    def poke(self) -> None:
        """Read what is there already, unless somebody else is reading."""
        if not self._is_led and self._socket is not None and _ready(self._socket, False, 0)[0]:
            self._receive()

    @property
    def is_readable(self) -> bool:
        """Whether bytes came that nobody has read yet."""
        return self._socket is not None and _ready(self._socket, False, 0)[0]

    def _receive(self) -> None:
        link = self._socket
        if link is None:
            return
        try:
            data = link.recv(_CHUNK)
            if not data:
                raise ConnectionResetError("the broker hung up")
            self.last_received = monotonic()
            on_frame = self._on_frame
            for kind, channel, payload in self._reader.feed(data):
                on_frame(kind, channel, payload)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except BrokerError as exc:
            self.lose(exc)
        except OSError as exc:
            self.lose(ConnectionLostError(f"The connection broke: {exc}"))
        except (IndexError, struct.error) as exc:
            self.lose(ConnectionLostError(f"The broker sent a frame that breaks off: {exc}"))


def _ready(link: socket.socket, wants_out: bool, timeout: float | None) -> tuple[bool, bool]:
    """Wait until a socket can be read, or written if wanted; an error or an end counts as both."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(link, select.POLLIN | (select.POLLOUT if wants_out else 0))
        # Rounded up: otherwise the last millisecond would spin.
        found = poll.poll(None if timeout is None else int(timeout * 1000 + 0.999))
        events = found[0][1] if found else 0
        return bool(events & ~select.POLLOUT), bool(events & select.POLLOUT)
    reading, writing, _ = select.select([link], [link] if wants_out else [], [], timeout)
    return bool(reading), bool(writing)
