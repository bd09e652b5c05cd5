"""From leased queues to consumers: who may have how many, in which order, and idle waiting."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import zip_longest
from time import monotonic
from typing import TYPE_CHECKING, Final

from kombu_core.virtual.precedence import Precedence
from kombu_core.virtual.store import Claimed, Release, Want
from kombu_core.virtual.topology import consumers_key, load_consumers, queue_key

if TYPE_CHECKING:
    from kombu_core.transport import CancelCallback, MessageCallback
    from kombu_core.virtual.broker import Broker
    from kombu_core.virtual.channel import VirtualChannel
    from kombu_core.virtual.declarations import Declarations

#: Messages claimed at once for a consumer without a prefetch limit, and at most in one claim.
CLAIM_LIMIT: Final = 256
#: Longest single wait in seconds: after it the queue is looked at, even if nothing woke us.
WAIT_SLICE: Final = 1.0
#: The same while consumers of other connections may come first.
YIELD_SLICE: Final = 0.05


class VirtualConsumer:
    """One subscription of a channel."""

    __slots__ = (
        "buffered",
        "callback",
        "channel",
        "is_active",
        "is_single",
        "no_ack",
        "on_cancel",
        "prefetch",
        "priority",
        "queue",
        "tag",
        "unacked",
    )

    def __init__(
        self,
        channel: VirtualChannel,
        tag: str,
        queue: str,
        callback: MessageCallback,
        *,
        no_ack: bool,
        prefetch: int,
        priority: int,
        on_cancel: CancelCallback | None,
        is_single: bool,
    ) -> None:
        self.channel = channel
        self.tag = tag
        self.queue = queue
        self.callback = callback
        self.no_ack = no_ack
        self.prefetch = prefetch
        self.priority = priority
        self.on_cancel = on_cancel
        #: Only one consumer of the queue is active at a time, until it leaves.
        self.is_single = is_single
        #: False while another one is.
        self.is_active = not is_single
        #: Tags of what is delivered and not settled.
        self.unacked: set[int] = set()
        #: Claimed and not delivered.
        self.buffered = 0

    @property
    def channel_id(self) -> int:
        """Its channel."""
        return self.channel.channel_id

    def capacity(self) -> int:
        """How many more messages may be claimed for it now."""
        if self.channel.is_paused:
            return 0
        room = CLAIM_LIMIT - self.buffered
        if self.prefetch and not self.no_ack:
            room = self.prefetch - len(self.unacked) - self.buffered
        return max(0, min(room, self.channel.window()))


#: A claimed message and the consumer that gets it. A plain tuple: there is one for each message.
Delivery = tuple[VirtualConsumer, Claimed]


class Dispatcher:
    """The claimed messages of one connection on their way to its consumers.

    `fill`, `take` and `wait` belong to the thread that drains; adding and removing consumers is
    allowed from any.
    """

    def __init__(self, broker: Broker, declarations: Declarations) -> None:
        self._broker = broker
        self._declarations = declarations
        self._lock = threading.RLock()
        self._consumers: dict[str, list[VirtualConsumer]] = {}
        self._buffer: deque[Delivery] = deque()
        self._precedence = Precedence(declarations, broker.session)
        self._turn = 0
        self._checked_at = 0.0
        #: Consumers whose queues are gone, to be told one by one.
        self._gone: deque[VirtualConsumer] = deque()

    def consumes_from(self, queue: str) -> bool:
        """Whether a consumer of this connection is subscribed to a queue."""
        return queue in self._consumers

    def add(self, consumer: VirtualConsumer) -> None:
        """Let a consumer take part from now on."""
        with self._lock:
            self._consumers.setdefault(consumer.queue, []).append(consumer)

    def remove(self, gone: Iterable[VirtualConsumer]) -> None:
        """Take consumers out; what was claimed for them and not delivered goes back."""
        with self._lock:
            leaving = set(gone)
            releases = []
            for delivery in [one for one in self._buffer.copy() if one[0] in leaving]:
                # The thread that drains may have taken it meanwhile; the others keep their order.
                with suppress(ValueError):
                    self._buffer.remove(delivery)
                    releases.append(Release(delivery[1].claim, is_delivered=False))
            for consumer in leaving:
                consumer.buffered = 0
                there = self._consumers.get(consumer.queue, [])
                if consumer in there:
                    there.remove(consumer)
                if not there:
                    self._consumers.pop(consumer.queue, None)
        self._broker.release(releases)

    def take(self) -> Delivery | None:
        """Return the next delivery, or None if nothing is claimed for a channel that flows."""
        try:
            delivery = self._buffer.popleft()
        except IndexError:
            return None
        if delivery[0].channel.is_paused:
            return self._take_behind(delivery)
        delivery[0].buffered -= 1
        return delivery

    def _take_behind(self, paused: Delivery) -> Delivery | None:
        """Put a delivery that has to wait back to the front, and return the first that has not."""
        with self._lock:
            consumer, claimed = paused
            if consumer in self._consumers.get(consumer.queue, ()):
                self._buffer.appendleft(paused)
            else:  # Another thread cancelled it, and did not find this message.
                self._broker.release([Release(claimed.claim, is_delivered=False)])
            for place, delivery in enumerate(self._buffer):
                if not delivery[0].channel.is_paused:
                    del self._buffer[place]
                    delivery[0].buffered -= 1
                    return delivery
        return None

    def fill(self) -> None:
        """Claim what consumers have room for."""
        wants, room = self._wants()
        if wants:
            claimed = self._broker.store.claim(wants, self._broker.session, CLAIM_LIMIT)
            self._distribute(self._broker.deliverable(claimed), room)

    def wait(self, timeout: float) -> None:
        """Block until something may have come for a consumer with room, or for a slice of time."""
        with self._lock:
            queues = [want.queue for want in self._wants()[0]]
        self._broker.store.wait(queues, min(timeout, self._slice()))

    def look_around(self) -> VirtualConsumer | None:
        """See who else consumes; return (and remove) a consumer whose queue is gone.

        Costs a round trip, so it does nothing most of the time.
        """
        if not self._gone and monotonic() - self._checked_at >= self._slice() / 4:
            self._look_around()
        return self._gone.popleft() if self._gone else None

    def _look_around(self) -> None:
        self._checked_at = monotonic()
        with self._lock:
            queues = list(self._consumers)
        keys = [*map(queue_key, queues), *map(consumers_key, queues)]
        documents = self._broker.store.read(keys)
        for queue, document, consuming in zip(
            queues, documents, documents[len(queues) :], strict=False
        ):
            if document.version:
                self._precedence.look(queue, load_consumers(consuming.value))
            else:
                self._gone.extend(self._consumers.get(queue, ()))
        if self._gone:
            self.remove(self._gone)

    def _slice(self) -> float:
        with self._lock:
            yields = any(map(self._precedence.yields, self._consumers))
        return YIELD_SLICE if yields else WAIT_SLICE

    # -- inside ----------------------------------------------------------------------------

    def _wants(self) -> tuple[list[Want], dict[str, list[VirtualConsumer]]]:
        """What to ask the store for, each time beginning with the next queue."""
        with self._lock:
            room: dict[str, list[VirtualConsumer]] = {}
            for queue, consumers in self._consumers.items():
                self._precedence.say(queue, consumers)
                with_room = [
                    consumer
                    for consumer in consumers
                    if consumer.capacity() and (consumer.is_active or self._activate(consumer))
                ]
                served = with_room
                if with_room and not with_room[0].is_single:
                    served = self._precedence.first(queue, with_room)
                if served:
                    room[queue] = served
            if not room:
                return [], room
            share = -(-CLAIM_LIMIT // len(room))
            wants = [
                Want(queue, min(sum(consumer.capacity() for consumer in served), share))
                for queue, served in room.items()
            ]
            self._turn = (self._turn + 1) % len(wants)
            return wants[self._turn :] + wants[: self._turn], room

    def _activate(self, consumer: VirtualConsumer) -> bool:
        """Make it the single active consumer if it is the first one in line.

        Whoever is first stays so until it leaves, hence one look is enough.
        """
        first = self._declarations.consumers(consumer.queue)[:1]
        mine = (self._broker.session, consumer.channel.channel_id, consumer.tag)
        consumer.is_active = [(one.session, one.channel, one.tag) for one in first] == [mine]
        return consumer.is_active

    def _distribute(self, claimed: list[Claimed], room: dict[str, list[VirtualConsumer]]) -> None:
        """Give messages to the consumers of their queue in turn, as far as each has room.

        What came from several queues is delivered in turn, too.
        """
        by_queue: dict[str, list[Claimed]] = {}
        for item in claimed:
            by_queue.setdefault(item.claim.queue, []).append(item)
        surplus: list[Release] = []
        with self._lock:
            lines = [
                self._share_out(items, room[queue], surplus) for queue, items in by_queue.items()
            ]
            if len(lines) == 1:
                self._buffer.extend(lines[0])
            else:
                for turn in zip_longest(*lines):
                    self._buffer.extend([delivery for delivery in turn if delivery is not None])
        self._broker.release(surplus)

    def _share_out(
        self, items: list[Claimed], consumers: list[VirtualConsumer], surplus: list[Release]
    ) -> list[Delivery]:
        """Give the messages of one queue to its consumers in turn."""
        subscribed = self._consumers.get(items[0].claim.queue, ())
        line = deque(
            (consumer, consumer.capacity()) for consumer in consumers if consumer in subscribed
        )
        deliveries: list[Delivery] = []
        if len(line) == 1:
            # One consumer takes all that it has room for.
            consumer, left = line.popleft()
            deliveries = [(consumer, item) for item in items[:left]]
            consumer.buffered += len(deliveries)
            items = items[left:]
        for item in items:
            while line and (line[0][1] <= 0 or line[0][0].channel.window() <= 0):
                line.popleft()
            if not line:
                surplus.append(Release(item.claim, is_delivered=False))
                continue
            consumer, left = line.popleft()
            line.append((consumer, left - 1))
            consumer.buffered += 1
            deliveries.append((consumer, item))
        return deliveries
