"""The AMQP channel of a virtual transport: AMQP's methods put together from the parts beside it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kombu_core.closing import Closing
from kombu_core.exceptions import (
    AccessRefusedError,
    BatchPublishError,
    ChannelError,
    KombuError,
    LeaseLostError,
    OperationalError,
    PreconditionFailedError,
    PublishRejectedError,
    UnroutableError,
)
from kombu_core.message import Envelope, Message
from kombu_core.transport import Publication
from kombu_core.virtual.broker import lost_text
from kombu_core.virtual.consuming import Delivery, VirtualConsumer
from kombu_core.virtual.declaring import TopologyMethods
from kombu_core.virtual.ledger import Entry, Ledger
from kombu_core.virtual.method import Method
from kombu_core.virtual.policy import consumer_priority, policy_of
from kombu_core.virtual.session import Session
from kombu_core.virtual.store import Claim, Claimed, Release
from kombu_core.virtual.topology import ConsumerRecord, check_access
from kombu_core.virtual.transaction import Transaction

if TYPE_CHECKING:
    from kombu_core.transport import CancelCallback, MessageCallback, ReturnCallback
    from kombu_core.virtual.transport import VirtualTransport

Arguments = Mapping[str, Any]


class VirtualChannel(Closing, TopologyMethods):
    """See `kombu_core.transport.Channel` for the contract."""

    def __init__(self, transport: VirtualTransport, channel_id: int) -> None:
        super().__init__(transport)
        self.channel_id = channel_id
        self._ledger = Ledger()
        self._consumers: dict[str, VirtualConsumer] = {}
        self._on_return: ReturnCallback | None = None
        self._prefetch = 0
        self._global_prefetch = 0
        self._tx: Transaction | None = None
        #: Something was published outside of a transaction.
        self._is_confirming = False
        #: Set by `flow(False)`: nothing is delivered.
        self.is_paused = False

    @property
    def is_open(self) -> bool:
        return self._is_open and self._transport.is_connected

    # -- publishing ------------------------------------------------------------------------

    def basic_publish(
        self,
        envelope: Envelope,
        *,
        mandatory: bool = False,
        delay: float = 0.0,
        timeout: float | None = None,
    ) -> None:
        if self._tx is None and not delay and self._is_open:
            # The path of nearly every message: known queues that ask for nothing special.
            self._is_confirming = True
            parts = self._transport.parts
            route = parts.directory.cached(envelope.exchange, envelope.routing_key)
            if (
                route is not None
                and route.is_plain
                and "expiration" not in envelope.properties
                and len(envelope.body) <= parts.largest_body
                and parts.broker.publish_plain(envelope, route)
            ):
                return
        publication = Publication(envelope, mandatory, delay)
        with Method(self) as parts:
            if self._tx is not None:
                if envelope.exchange:
                    parts.directory.exchange(envelope.exchange)  # No commit tells, if it is gone.
                self._tx.publications.append(parts.broker.decide(publication))
                return
            self._is_confirming = True
            failed = parts.broker.publish([publication])
            if failed:
                self._not_stored(failed[0])

    def basic_publish_batch(
        self, publications: Sequence[Publication], *, timeout: float | None = None
    ) -> None:
        with Method(self) as parts:
            if self._tx is not None:
                for publication in publications:
                    self.basic_publish(
                        publication.envelope,
                        mandatory=publication.mandatory,
                        delay=publication.delay,
                    )
                return
            self._is_confirming = True
            failed: dict[int, Exception] = {}
            for position, error in parts.broker.publish(publications).items():
                try:
                    self._not_stored(error)
                except KombuError as exc:
                    failed[position] = exc
        if failed:
            if any(isinstance(error, ChannelError) for error in failed.values()):
                self.close()
            raise BatchPublishError(failed, len(publications))

    def set_return_callback(self, callback: ReturnCallback | None) -> None:
        self._on_return = callback

    def _not_stored(self, error: KombuError) -> None:
        """Hand a returned message to its callback, or raise what happened."""
        if isinstance(error, UnroutableError) and self._on_return is not None:
            self._on_return(error.envelope, error.code, error.text)
        else:
            raise error

    # -- consuming -------------------------------------------------------------------------

    def basic_get(self, queue: str, *, no_ack: bool = False) -> Message | None:
        with Method(self) as parts:
            record = parts.directory.queue(queue)
            check_access(record, parts.session.id)
            parts.session.begin()
            parts.session.flush()
            expires = policy_of(record.arguments).expires
            if expires is not None:
                parts.session.use_queue(queue, expires)
            found = parts.session.claiming(lambda: parts.broker.fetch(queue))
            return None if found is None else self._message((None, found), no_ack, "")

    def basic_consume(
        self,
        queue: str,
        callback: MessageCallback,
        *,
        consumer_tag: str = "",
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Arguments | None = None,
        on_cancel: CancelCallback | None = None,
    ) -> str:
        with Method(self) as parts:
            capabilities = self._transport.capabilities
            capabilities.require_consumer(queue, exclusive)
            priority = consumer_priority(arguments or {}, capabilities)
            tag = consumer_tag or f"amq.ctag-{secrets.token_urlsafe(16)}"
            if tag in self._consumers:
                raise PreconditionFailedError(
                    f"NOT_ALLOWED - attempt to reuse consumer tag '{tag}'", 530
                )
            parts.session.begin()
            record = ConsumerRecord(parts.session.id, self.channel_id, tag, exclusive, priority)
            try:
                parts.declarations.add_consumer(queue, record)
            except AccessRefusedError:
                parts.session.reap()  # Whoever had it may be dead.
                parts.declarations.add_consumer(queue, record)
            policy = policy_of(parts.directory.queue(queue, fresh=False).arguments)
            consumer = VirtualConsumer(
                self,
                tag,
                queue,
                callback,
                no_ack=no_ack,
                prefetch=self._prefetch,
                priority=priority,
                on_cancel=on_cancel,
                is_single=policy.single_active_consumer,
            )
            self._consumers[tag] = consumer
            parts.dispatcher.add(consumer)
            if policy.expires is not None:
                parts.session.keep_queue(queue, policy.expires)
            return tag

    def basic_cancel(self, consumer_tag: str) -> None:
        with Method(self) as parts:
            consumer = self._consumers.pop(consumer_tag, None)
            if consumer is not None:
                parts.dispatcher.remove([consumer])
                parts.declarations.remove_consumers(
                    consumer.queue, parts.session.id, (self.channel_id, consumer_tag)
                )

    def basic_qos(
        self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False
    ) -> None:
        with Method(self):
            if prefetch_size:
                raise ChannelError("NOT_IMPLEMENTED - prefetch_size!=0", 540)
            # RabbitMQ: either kind of limit ends the other one.
            self._global_prefetch = prefetch_count if apply_global else 0
            if not apply_global:
                self._prefetch = prefetch_count

    def basic_recover(self, requeue: bool = True) -> None:
        with Method(self) as parts:
            if not requeue:
                raise ChannelError("NOT_IMPLEMENTED - requeue=false", 540)
            entries = self._ledger.take_all()
            with self._ledger.or_put_back(entries):
                lost = parts.broker.requeue([claimed for _, claimed in entries.values()])
            self._report(lost)

    def flow(self, active: bool) -> None:
        with Method(self):
            self.is_paused = not active

    def window(self) -> int:
        """How many more deliveries `basic.qos` with `apply_global` allows to the whole channel."""
        if not self._global_prefetch:
            return 1 << 30
        buffered = sum(consumer.buffered for consumer in self._consumers.values())
        return self._global_prefetch - self._ledger.consumed - buffered

    def deliver(self, delivery: Delivery) -> None:
        """Give a claimed message to its consumer's callback, whose exceptions come out."""
        consumer = delivery[0]
        message = self._message(delivery, consumer.no_ack, consumer.tag)
        if self._is_open or consumer.no_ack:
            consumer.callback(message)
        elif self._ledger.pop(message.delivery_tag) is not None:
            # Another thread closed it meanwhile, and did not find this message to give it back.
            self._transport.parts.broker.release([Release(delivery[1].claim)])

    def consumer_gone(self, consumer: VirtualConsumer) -> None:
        """Tell the application that the broker cancelled its consumer."""
        if self._consumers.pop(consumer.tag, None) is not None and consumer.on_cancel is not None:
            consumer.on_cancel(consumer.tag)

    def _message(self, entry: Entry, no_ack: bool, consumer_tag: str) -> Message:
        claimed = entry[1]
        if no_ack:
            delivery_tag = self._ledger.tag()
            self._transport.parts.session.acknowledge_soon(claimed.claim)
        else:
            delivery_tag = self._ledger.add(entry)
        # Whoever claims sorts the malformed out.
        envelope: Envelope = claimed.content  # type: ignore[assignment]
        if claimed.deliveries:
            envelope = self._counted(envelope, claimed)
        return Message(self, envelope, delivery_tag, claimed.deliveries > 0, consumer_tag, no_ack)

    def _counted(self, envelope: Envelope, claimed: Claimed) -> Envelope:
        """Add the count of deliveries where the queue counts them (RabbitMQ's quorum queues)."""
        if not self._transport.parts.broker.policy(claimed.claim.queue).counts_deliveries:
            return envelope
        headers = {**envelope.headers, "x-delivery-count": claimed.deliveries}
        return envelope._replace(headers=headers)

    # -- settling --------------------------------------------------------------------------

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        if self._tx is None and not multiple and self._is_open:
            # The path of nearly every message.
            entry = self._ledger.pop(delivery_tag)
            if entry is not None:
                session = self._transport.parts.session
                try:
                    session.acknowledge((entry[1].claim,))
                except OperationalError:
                    self._not_sent(session, {delivery_tag: entry})
                    raise
                return
        with Method(self) as parts:
            entries = self._ledger.take(delivery_tag, multiple)
            if self._tx is not None:
                self._tx.settle(entries, self._tx.acks)
                return
            try:
                parts.session.acknowledge([claimed.claim for _, claimed in entries.values()])
            except OperationalError:
                self._not_sent(parts.session, entries)
                raise

    def _not_sent(self, session: Session, entries: Mapping[int, Entry]) -> None:
        if session.is_joined:  # Else the session sends them yet.
            self._ledger.put_back(entries)

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        with Method(self) as parts:
            entries = self._ledger.take(delivery_tag, multiple)
            taken = [claimed for _, claimed in entries.values()]
            if self._tx is not None:
                self._tx.settle(entries, self._tx.releases if requeue else self._tx.dead)
                return
            with self._ledger.or_put_back(entries):
                parts.session.flush()
                if requeue:
                    lost = parts.broker.requeue(taken)
                else:
                    lost = parts.broker.dead_letter(taken, "rejected")
            self._report(lost)

    def basic_reject(self, delivery_tag: int, requeue: bool = True) -> None:
        self.basic_nack(delivery_tag, False, requeue)

    @staticmethod
    def _report(lost: Sequence[Claim]) -> None:
        if lost:
            raise LeaseLostError(lost_text(lost))

    # -- transactions and the channel itself -----------------------------------------------

    def confirm_select(self) -> None:
        with Method(self):
            if self._tx is not None:
                raise PreconditionFailedError(
                    "PRECONDITION_FAILED - cannot switch from tx to confirm mode"
                )
            self._is_confirming = True

    def tx_select(self) -> None:
        with Method(self):
            self._transport.capabilities.require("transactions")
            if self._is_confirming:
                raise PreconditionFailedError(
                    "PRECONDITION_FAILED - cannot switch from confirm to tx mode"
                )
            if self._tx is None:
                self._tx = Transaction()

    def tx_commit(self) -> None:
        with Method(self) as parts:
            tx = self._transaction()
            self._tx = Transaction()
            with self._ledger.or_put_back(tx.entries):
                failed = tx.commit(parts.broker)
            for error in failed:
                if isinstance(error, PublishRejectedError):
                    raise PreconditionFailedError("PRECONDITION_FAILED - partial tx completion")
                self._not_stored(error)

    def tx_rollback(self) -> None:
        with Method(self):
            self._ledger.put_back(self._transaction().entries)
            self._tx = Transaction()

    def _transaction(self) -> Transaction:
        if self._tx is None:
            raise PreconditionFailedError("PRECONDITION_FAILED - channel is not transactional")
        return self._tx

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._transport.forget_channel(self)
        if self._transport.is_connected:
            self._transport.parts.session.claiming(self._give_back)

    def _give_back(self) -> None:
        """End the subscriptions and requeue what is unacknowledged."""
        parts = self._transport.parts
        consumers = list(self._consumers.values())
        self._consumers.clear()
        parts.dispatcher.remove(consumers)
        parts.session.flush()
        if self._tx is not None:
            self._ledger.put_back(self._tx.entries)
        parts.broker.requeue([claimed for _, claimed in self._ledger.take_all().values()])
        for consumer in consumers:
            parts.declarations.remove_consumers(
                consumer.queue, parts.session.id, (self.channel_id, consumer.tag)
            )

    def reset(self) -> None:
        """Forget deliveries and subscriptions: they are another process's, or lost."""
        self._ledger = Ledger()
        self._consumers.clear()
        self._tx = None if self._tx is None else Transaction()
