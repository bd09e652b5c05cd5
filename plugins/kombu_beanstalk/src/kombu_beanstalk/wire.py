"""One connection to beanstalkd: greenstalk's client, and any number of commands in one round trip.

greenstalk sends one command and waits for its reply. beanstalkd reads ahead, so that a list of
commands costs one wait; that is all that is added here, on greenstalk's own socket and reader. The
tubes that the connection uses and watches are remembered, so that only changes are sent.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

from greenstalk import Client

from kombu_core.exceptions import BrokerError, OperationalError

#: Replies that are followed by so many bytes as their last word says.
_WITH_BODY: Final = frozenset({b"RESERVED", b"FOUND", b"OK"})
#: Commands that only turn the connection to a tube; their replies tell nothing.
_TURNS: Final = (b"use ", b"watch ", b"ignore ")
_SILENT: Final = "beanstalkd closed the connection, or did not answer in time"
#: The server is short of something, or about to stop.
_BUSY: Final = frozenset({b"OUT_OF_MEMORY", b"INTERNAL_ERROR", b"DRAINING"})
_WRONG: Final = frozenset({b"BAD_FORMAT", b"UNKNOWN_COMMAND", b"EXPECTED_CRLF", b"NOT_IGNORED"})
#: As many are few enough not to look at their size.
_FEW: Final = 8
#: Commands, and bytes of them, on their way at a time: their replies have to fit into the buffers
#: of the sockets, or both sides would wait for each other.
_MOST: Final = 512
_MOST_BYTES: Final = 1 << 20


class Reply(NamedTuple):
    """What the server answered to one command."""

    status: bytes
    #: The id of the job in question, or a count.
    number: int = 0
    body: bytes = b""


class Wire(Client[bytes]):
    """One connection. For one thread at a time; after any error but a refusal it is of no use.

    A refusal is a `BrokerError`; what the socket raises comes out as it is.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, encoding=None)
        self._used = "default"
        self._watched = {"default"}

    @property
    def watched(self) -> int:
        """How many tubes it watches."""
        return len(self._watched)

    def enter(self, tube: str) -> list[bytes]:
        """Return the commands after which puts and peeks are about `tube`; send them next."""
        if tube == self._used:
            return []
        self._used = tube
        return [b"use " + tube.encode()]

    def follow(self, tubes: Collection[str]) -> list[bytes]:
        """Return the commands after which reserves are about `tubes`; send them next."""
        wanted = set(tubes)
        if wanted == self._watched:
            return []
        # First the new ones: the last tube cannot be ignored.
        commands = [b"watch " + tube.encode() for tube in wanted - self._watched]
        commands += [b"ignore " + tube.encode() for tube in self._watched - wanted]
        self._watched = wanted
        return commands

    def attend(self, tube: str) -> list[bytes]:
        """Return the commands after which `tube` is watched, too; send them next."""
        if tube in self._watched:
            return []
        self._watched.add(tube)
        return [b"watch " + tube.encode()]

    def ask(self, commands: Sequence[bytes]) -> list[Reply]:
        """Send all commands and return their replies, but for those to `enter` and `follow`.

        One round trip for each 512 commands.

        Raises:
            OperationalError: The server cannot do it now; the other commands were done.
            BrokerError: The server does not understand.
        """
        replies: list[Reply] = []
        problem = None
        for part in (commands,) if 0 < len(commands) <= _FEW else _parts(commands):
            self.send(part)
            for command in part:
                reply = self.receive()
                if command.startswith(_TURNS):
                    if reply.status in (b"USING", b"WATCHING"):
                        continue
                elif reply.status not in _BUSY and reply.status not in _WRONG:
                    replies.append(reply)
                    continue
                problem = problem or (command, reply)
        if problem is not None:
            _refuse(*problem)
        return replies

    def send(self, commands: Sequence[bytes]) -> None:
        """Send commands without waiting."""
        self._sock.sendall(b"\r\n".join(commands) + b"\r\n")

    def receive(self) -> Reply:
        """Wait for the next reply."""
        line = self._reader.readline()
        if line[-2:] != b"\r\n":
            raise ConnectionError(_SILENT)
        status, _, rest = line[:-2].partition(b" ")
        if status in _WITH_BODY:
            first, _, second = rest.partition(b" ")
            size = int(second or first)
            body = self._reader.read(size + 2)
            if len(body) != size + 2:
                raise ConnectionError(_SILENT)
            return Reply(status, int(first), body[:-2])
        return Reply(status, int(rest) if rest.isdigit() else 0)

    def is_readable(self, timeout: float) -> bool:
        """Wait until a reply, or the end of the connection, is there."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def shut_down(self) -> None:
        """End the connection while another thread reads: that one meets the end."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _parts(commands: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut a long list of commands into pieces; an empty one has none."""
    part: list[bytes] = []
    size = 0
    for command in commands:
        if part and (len(part) >= _MOST or size + len(command) > _MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(command)
        size += len(command)
    if part:
        yield part


def _refuse(command: bytes, reply: Reply) -> None:
    what = command.split(b"\r\n", 1)[0].decode("ascii", "replace")
    said = reply.status.decode("ascii", "replace")
    if reply.status == b"DRAINING":
        raise OperationalError("beanstalkd is in drain mode and takes no jobs")
    if reply.status in _BUSY:
        raise OperationalError(f"beanstalkd cannot do it now: {said}")
    raise BrokerError(f"beanstalkd refused {what!r}: {said}")


def stats(body: bytes) -> dict[str, str]:
    """Read what the server tells of itself, of a tube or of a job."""
    lines = body.decode("utf-8", "replace").splitlines()
    pairs = (line.partition(": ") for line in lines)
    return {name: value.strip('"') for name, colon, value in pairs if colon}


def put(body: bytes, *, priority: int = 0, delay: int = 0, ttr: int = 60) -> bytes:
    """Return the command that puts a job."""
    return b"put %d %d %d %d\r\n%b" % (priority, delay, ttr, len(body), body)
