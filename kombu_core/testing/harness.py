"""What the contract tests stand on: the broker under test, and waiting that has a deadline."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, cast

from kombu_core.exceptions import NotFoundError, NothingCameError, ResourceLockedError
from kombu_core.message import Envelope, Message, Properties
from kombu_core.transport import Channel, Transport

T = TypeVar("T")

#: How long a test waits for what must happen (seconds). Never reached when all is well; a slow
#: machine may need more.
DEADLINE: Final = float(os.environ.get("KOMBU_CONTRACT_DEADLINE", "10"))
#: How long a test listens before it believes that nothing comes (seconds).
QUIET: Final = 0.1
#: The longest lease that the tests wait for (seconds).
LONGEST_LEASE: Final = 5.0
#: Between two looks at a condition that nobody announces (seconds).
POLL: Final = 0.005


class ContractConnection(Protocol):
    """What the tests need of a connection; `kombu_core.Connection` has it."""

    @property
    def transport(self) -> Transport:
        """The transport that it runs on."""
        ...

    def channel(self) -> Channel:
        """Open a new channel, connecting first if need be."""
        ...

    def drain_events(self, timeout: float | None = None) -> object:
        """Handle one event; TimeoutError if nothing came for `timeout` seconds."""
        ...

    def release(self) -> None:
        """Close it. Idempotent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerUnderTest:
    """What a transport's author says of the broker that the kit shall use."""

    url: str
    transport_options: Mapping[str, Any] = field(default_factory=dict)
    #: Seconds after which a dead client's messages are given to others, as set in the options
    #: (short: the tests wait for it). None: the broker watches its clients itself, by their
    #: sockets, so that there is no lease to outlive; the tests of leases are skipped then.
    lease: float | None = None
    #: Seconds to whose multiples the broker rounds delays up; 0.0: it does not.
    time_step: float = 0.0
    #: A URL of the same kind where nobody listens, with the password `secret`, if there is such.
    dead_url: str = ""
    #: What makes connections, `module:attribute`; other processes import it too.
    connection_class: str = "kombu_core.connection:Connection"
    #: Faults, where the broker can be hurt: each returns when it is done.
    restart: Callable[[], object] | None = None
    kill: Callable[[], object] | None = None
    pause: Callable[[], object] | None = None
    resume: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        if self.lease is not None and not 0 < self.lease <= LONGEST_LEASE:
            raise ValueError(
                f"BrokerUnderTest.lease is {self.lease} s, and many tests wait until it runs out. "
                "Give the transport one of a second or less for the tests, and say so here, as "
                "BrokerUnderTest(url=..., transport_options={'lease': 0.5}, lease=0.5); None if "
                "the broker watches its clients by their sockets"
            )

    @property
    def patience(self) -> float:
        """Seconds within which a dead client's messages must be back."""
        return 2 * (self.lease or 0.0) + DEADLINE

    def open(self, url: str = "") -> ContractConnection:
        """Return a new connection to the broker."""
        return open_connection(self.connection_class, url or self.url, self.transport_options)


def open_connection(
    connection_class: str, url: str, transport_options: Mapping[str, Any]
) -> ContractConnection:
    """Import a connection class by its `module:attribute` and call it."""
    module, _, attribute = connection_class.partition(":")
    factory = getattr(importlib.import_module(module), attribute)
    return cast("ContractConnection", factory(url, transport_options=dict(transport_options)))


class Names:
    """Makes names that no other test uses, and remembers them for the clean-up."""

    def __init__(self, token: str) -> None:
        self._token = token
        self.made: list[str] = []

    def __call__(self, label: str = "q") -> str:
        self.made.append(f"{label}-{self._token}-{len(self.made)}")
        return self.made[-1]


# -- waiting ---------------------------------------------------------------------------------


def until(look: Callable[[], T], what: str = "the condition", timeout: float = DEADLINE) -> T:
    """Look again and again until `look` returns something true, and return that."""
    deadline = time.monotonic() + timeout
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s; last: {seen!r}")
        time.sleep(POLL)
    return seen


def drain_until(
    connection: ContractConnection,
    condition: Callable[[], object],
    what: str = "the expected deliveries",
    timeout: float = DEADLINE,
) -> None:
    """Drain events until `condition` is true."""
    deadline = time.monotonic() + timeout
    while not condition():
        left = deadline - time.monotonic()
        if left <= 0:
            raise AssertionError(f"{what} did not come within {timeout} s")
        try:
            connection.drain_events(timeout=min(left, 0.1))
        except NothingCameError:
            continue


def drain_quiet(connection: ContractConnection, quiet: float = QUIET) -> None:
    """Drain events until nothing has come for `quiet` seconds."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        try:
            connection.drain_events(timeout=quiet)
        except NothingCameError:
            return
    raise AssertionError(f"the connection was still busy after {DEADLINE} s")


def drain_exactly(connection: ContractConnection, count: int, *boxes: Sized) -> None:
    """Drain until `boxes` hold `count` together, and see that no more come."""
    drain_until(connection, lambda: sum(map(len, boxes)) >= count, f"{count} deliveries")
    drain_quiet(connection)
    held = sum(map(len, boxes))
    assert held == count, f"{held} deliveries came, not {count}"


def run_threads(works: Iterable[Callable[[], object]]) -> None:
    """Run each work in a thread of its own, and raise the first error of any."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as exc:  # noqa: BLE001  (raised below, in the test's thread)
            errors.append(exc)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * DEADLINE)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"


class Inbox:
    """A consumer's callback that keeps what came."""

    def __init__(self, *, ack: bool = False) -> None:
        self._ack = ack
        self.messages: list[Message] = []

    def __call__(self, message: Message) -> None:
        self.messages.append(message)
        if self._ack:
            message.ack()

    @property
    def bodies(self) -> list[str]:
        """The bodies, oldest first."""
        return [message.body.decode() for message in self.messages]

    def __len__(self) -> int:
        return len(self.messages)


# -- short forms -----------------------------------------------------------------------------


def envelope(
    exchange: str,
    routing_key: str,
    body: str | bytes = b"",
    headers: Mapping[str, Any] | None = None,
    **properties: Any,
) -> Envelope:
    """Return an envelope; `properties` are AMQP's basic properties."""
    raw = body.encode() if isinstance(body, str) else body
    return Envelope(raw, cast("Properties", properties), headers or {}, exchange, routing_key)


def publish(
    channel: Channel,
    exchange: str,
    routing_key: str,
    *bodies: str | bytes,
    headers: Mapping[str, Any] | None = None,
    **properties: Any,
) -> None:
    """Publish each of `bodies`, in order."""
    for body in bodies:
        channel.basic_publish(envelope(exchange, routing_key, body, headers, **properties))


def fetch(
    channel: Channel, queue: str, *, no_ack: bool = False, timeout: float = DEADLINE
) -> Message:
    """Get one message that is there or about to come."""
    found = until(lambda: channel.basic_get(queue, no_ack=no_ack), f"a message in {queue}", timeout)
    assert found is not None
    return found


def fetch_many(channel: Channel, queue: str, count: int) -> list[Message]:
    """Get `count` messages, unacknowledged, in order."""
    return [fetch(channel, queue) for _ in range(count)]


def take(channel: Channel, queue: str, count: int) -> list[str]:
    """Get and settle `count` messages; the bodies in order, and there must be no more."""
    bodies = [fetch(channel, queue, no_ack=True).body.decode() for _ in range(count)]
    extra = channel.basic_get(queue, no_ack=True)
    assert extra is None, f"{queue} held one more than {bodies}: {extra.body!r}"
    return bodies


def ready(channel: Channel, queue: str) -> int:
    """Return how many messages are ready in a queue."""
    return channel.queue_declare(queue, passive=True).message_count


def exists(connection: ContractConnection, queue: str) -> bool:
    """Whether there is a queue of that name; leaves no channel behind."""
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except NotFoundError:
        return False
    except ResourceLockedError:
        return True
    finally:
        channel.close()
    return True


def declare_bound(
    channel: Channel,
    queue: str,
    exchange: str,
    keys: Sequence[str] = ("",),
    arguments: Mapping[str, Any] | None = None,
) -> str:
    """Declare a plain queue and bind it by each of `keys`; returns its name."""
    channel.queue_declare(queue, arguments=arguments)
    for key in keys:
        channel.queue_bind(queue, exchange, key)
    return queue
