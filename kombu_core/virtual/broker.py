"""The flow of messages through a store: publish, settle, dead-letter; each one atomic commit."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from kombu_core.capabilities import Capabilities
from kombu_core.exceptions import (
    AccessRefusedError,
    ChannelError,
    ContentTooLargeError,
    EncodeError,
    KombuError,
    LeaseLostError,
    NotFoundError,
    PreconditionFailedError,
    PublishRejectedError,
    UnroutableError,
)
from kombu_core.message import Envelope, Malformed
from kombu_core.transport import Publication
from kombu_core.virtual.deadletter import Reason, buried, is_cycle
from kombu_core.virtual.directory import Directory, Route
from kombu_core.virtual.policy import MAX_PRIORITY, QueuePolicy, policy_of
from kombu_core.virtual.store import (
    Batch,
    Claim,
    Claimed,
    CommitResult,
    Conflict,
    Limit,
    Put,
    Release,
    Store,
    Want,
)
from kombu_core.virtual.topology import QueueRecord, queue_key

#: Where undecodable messages go: a queue of the store that applications may declare and read.
QUARANTINE: Final = "kombu.quarantine"
#: Milliseconds that a message may have to live, as on RabbitMQ.
MAX_EXPIRATION: Final = 2**32 - 1
_EXPIRATION: Final = re.compile(r"[0-9]{1,10}")


class Burial(Publication):
    """A dead letter: welcome in internal exchanges, not in a queue where it would go in circles.

    As on RabbitMQ it is dropped if its exchange is gone, or a queue refuses it.
    """

    __slots__ = ()


class Decided(Publication):
    """One of a transaction: it goes where the bindings led when it was published (RabbitMQ)."""

    #: Names of the queues; those that are gone by then get nothing.
    queues: tuple[str, ...] = ()


class _Plan(NamedTuple):
    """What a commit does with the publications that can be routed."""

    puts: list[Put]
    #: For each put, the position of its publication.
    positions: list[int]
    expect: dict[str, int]
    limits: dict[str, Limit]
    #: Publications that cannot be stored, and why.
    failed: dict[int, KombuError]


class Broker:
    """One session's way to publish and settle. Thread-safe; a round trip or two in each method."""

    def __init__(
        self,
        store: Store,
        directory: Directory,
        capabilities: Capabilities,
        session: str,
        *,
        begin_session: Callable[[], object],
        watch_expiry: Callable[[str], object],
    ) -> None:
        self.store = store
        self.directory = directory
        self.capabilities = capabilities
        self.session = session
        #: Called before a commit that may claim something.
        self._begin_session = begin_session
        #: Called with a queue in which messages may expire that nobody claims; see `expire`.
        self._watch_expiry = watch_expiry

    # -- publishing ------------------------------------------------------------------------

    def publish_plain(self, envelope: Envelope, route: Route) -> bool:
        """Publish one message by a route of plain queues; False if the route is out of date."""
        puts = [Put(name, envelope) for name in route.names]
        try:
            self.store.commit(Batch(puts, (), (), route.expect))
        except Conflict as conflict:
            self.directory.forget(conflict.keys)
            return False
        return True

    def publish(
        self,
        publications: Sequence[Publication],
        *,
        acks: Sequence[Claim] = (),
        releases: Sequence[Release] = (),
        expect: Mapping[str, int] = MappingProxyType({}),
    ) -> dict[int, KombuError]:
        """Publish all in one commit, together with acks and releases.

        `expect` are the documents, by key and version, that the publications were made by.

        Returns the positions that were not stored and why: no such exchange, a refusing queue,
        unroutable though mandatory. All others are stored. What closes a channel ends the batch:
        the rest of it is not stored either, for the same reason (as RabbitMQ).

        Raises:
            LeaseLostError: A claim in `acks` or `releases` is not this session's; nothing
                was stored.
            Conflict: Something in `expect` moved; nothing was stored.
        """
        while True:
            plan = self._plan(publications)
            plan.expect.update(expect)
            self._bound(releases, plan.limits, plan.expect)
            batch = Batch(
                plan.puts, acks, releases, tuple(plan.expect.items()), self.session, plan.limits
            )
            try:
                result = self.store.commit(batch)
            except Conflict as conflict:
                self.directory.forget(conflict.keys)
                if not expect.keys().isdisjoint(conflict.keys):
                    raise
                continue
            break
        if result.lost:
            raise LeaseLostError(lost_text(result.lost))
        for position in result.rejected:
            put = plan.puts[position]
            plan.failed[plan.positions[position]] = PublishRejectedError(
                f"Queue {put.queue!r} is full and refused the message"
            )
        self._after(plan, result)
        return plan.failed

    def _plan(self, publications: Sequence[Publication]) -> _Plan:
        plan = _Plan([], [], {}, {}, {})
        for position, publication in enumerate(publications):
            envelope = publication.envelope
            try:
                route, ttl = self._routed(publication)
            except ChannelError as error:
                if isinstance(publication, Burial):
                    plan.failed[position] = error
                    continue
                plan.failed.update(dict.fromkeys(range(position, len(publications)), error))
                break
            except KombuError as error:
                plan.failed[position] = error
                continue
            plan.expect.update(route.expect)
            if not route.queues and publication.mandatory:
                plan.failed[position] = UnroutableError(envelope)
            is_burial = isinstance(publication, Burial)
            for record in route.queues:
                if not (is_burial and is_cycle(record.name, envelope.headers)):
                    self._add(plan, position, publication, record, ttl)
        return plan

    def decide(self, publication: Publication) -> Decided:
        """Route a message now that is stored later. Raises as `accept`.

        The default exchange names a queue that may come until then (as RabbitMQ).
        """
        envelope = publication.envelope
        if not envelope.exchange:
            self._check(publication)
            decided = Decided(*publication)
            decided.queues = (envelope.routing_key,)
            return decided
        while True:
            route, _ = self.accept(publication)
            try:
                self.store.commit(Batch(expect=route.expect))
            except Conflict as conflict:
                self.directory.forget(conflict.keys)
                continue
            decided = Decided(*publication)
            decided.queues = route.names
            return decided

    def _routed(self, publication: Publication) -> tuple[Route, float | None]:
        if not isinstance(publication, Decided):
            return self.accept(publication)
        known = {name: self.directory.known(name) for name in publication.queues}
        expect = {queue_key(name): version for name, (_, version) in known.items()}
        there = [record for record, _ in known.values() if record is not None]
        return Route.to(there, expect), self._check(publication)

    def accept(self, publication: Publication) -> tuple[Route, float | None]:
        """Return where a message goes, and its own time to live.

        Raises:
            NotFoundError: There is no such exchange.
            AccessRefusedError: It is internal (403, as RabbitMQ).
            PreconditionFailedError: Its expiration makes no sense.
        """
        envelope = publication.envelope
        route = self.directory.route(envelope.exchange, envelope.routing_key, envelope.headers)
        if route.is_internal and not isinstance(publication, Burial):
            raise AccessRefusedError(
                f"ACCESS_REFUSED - cannot publish to internal exchange '{envelope.exchange}'"
            )
        return route, self._check(publication)

    def _add(
        self,
        plan: _Plan,
        position: int,
        publication: Publication,
        record: QueueRecord,
        ttl: float | None,
    ) -> None:
        envelope = publication.envelope
        policy = policy_of(record.arguments)
        if policy.limit is not None:
            plan.limits[record.name] = policy.limit
            if policy.limit.keep_dropped:
                self._begin_session()
        priority = 0
        if policy.max_priority:
            wanted = envelope.properties.get("priority") or 0
            priority = min(wanted, policy.max_priority, MAX_PRIORITY)
        if policy.message_ttl is not None:
            ttl = policy.message_ttl if ttl is None else min(ttl, policy.message_ttl)
        if ttl is not None:
            self._watch_expiry(record.name)
        plan.puts.append(Put(record.name, envelope, priority, max(0.0, publication.delay), ttl))
        plan.positions.append(position)

    def _check(self, publication: Publication) -> float | None:
        """Refuse what the transport cannot do; return the message's own time to live."""
        envelope = publication.envelope
        largest = self.capabilities.max_message_bytes
        if largest is not None and len(envelope.body) > largest:
            hint = self.capabilities.max_message_hint
            raise ContentTooLargeError(
                f"The body has {len(envelope.body)} bytes; {self.capabilities.name} takes "
                f"at most {largest}" + (f" ({hint})" if hint else "")
            )
        if publication.delay:
            self.capabilities.require("delay")
        expiration = envelope.properties.get("expiration")
        if expiration is None:
            return None
        self.capabilities.require("message_ttl", "a message was published with an expiration")
        if not _EXPIRATION.fullmatch(str(expiration)) or int(expiration) > MAX_EXPIRATION:
            raise PreconditionFailedError(
                f"PRECONDITION_FAILED - invalid expiration {expiration!r}: "
                f"whole milliseconds as text are wanted, at most {MAX_EXPIRATION}"
            )
        return int(expiration) / 1000

    def _after(self, plan: _Plan, result: CommitResult) -> None:
        """Dead-letter what the limits of queues pushed out or refused."""
        self.dead_letter(result.dropped, "maxlen")
        for position in result.rejected:
            put = plan.puts[position]
            record = self._record(put.queue)
            policy = policy_of(record.arguments) if record else QueuePolicy()
            if record and policy.dead_letters_rejected:
                try:
                    self.publish(self._burials(record, put.envelope, "maxlen"))
                except EncodeError as error:
                    self.store.commit(Batch([_quarantined(put.queue, put.envelope, str(error))]))

    # -- settling --------------------------------------------------------------------------

    def acknowledge(self, claims: Sequence[Claim]) -> list[Claim]:
        """Acknowledge all claims that are still this session's; return those that are not."""
        lost: list[Claim] = []
        while claims:
            result = self.store.commit(Batch(acks=claims, session=self.session))
            if not result.lost:
                break
            lost += result.lost
            gone = set(result.lost)
            claims = [claim for claim in claims if claim not in gone]
        return lost

    def release(self, releases: Sequence[Release]) -> list[Claim]:
        """Give claims back to their places; return those that were not this session's any more.

        What comes back may push others out of a queue that was filled meanwhile, as on RabbitMQ.
        """
        lost: list[Claim] = []
        while releases:
            limits: dict[str, Limit] = {}
            expect: dict[str, int] = {}
            self._bound(releases, limits, expect)
            batch = Batch((), (), releases, tuple(expect.items()), self.session, limits)
            try:
                result = self.store.commit(batch)
            except Conflict as conflict:
                self.directory.forget(conflict.keys)
                continue
            if not result.lost:
                self.dead_letter(result.dropped, "maxlen")
                break
            lost += result.lost
            gone = set(result.lost)
            releases = [release for release in releases if release.claim not in gone]
        return lost

    def _bound(
        self, releases: Sequence[Release], limits: dict[str, Limit], expect: dict[str, int]
    ) -> None:
        """Add the limits of the queues that something comes back to."""
        for queue in {release.claim.queue for release in releases}:
            record, expect[queue_key(queue)] = self.directory.known(queue)
            limit = policy_of(record.arguments).limit if record else None
            if limit is not None:
                limits[queue] = limit

    def fetch(self, queue: str) -> Claimed | None:
        """Claim the next message of a queue that may be delivered; None if there is none."""
        while claimed := self.store.claim([Want(queue, 1)], self.session, 1):
            for item in self.deliverable(claimed):
                return item
        return None

    def deliverable(self, claimed: Sequence[Claimed]) -> list[Claimed]:
        """Return what may be delivered of what was claimed; the rest goes where it belongs.

        That is: out of time or returned too often, to the dead letters; unreadable, to quarantine.
        If that fails, all go back: nobody would ever hear of them.
        """
        good = []
        try:
            for item in claimed:
                if isinstance(item.content, Malformed):
                    self.quarantine(item, item.content.reason)
                elif item.is_expired:
                    self.dead_letter([item], "expired")
                elif item.deliveries and self._is_returned_too_often(item, item.deliveries):
                    self.dead_letter([item], "delivery_limit")
                else:
                    good.append(item)
        except KombuError:
            self.release([Release(item.claim, is_delivered=False) for item in claimed])
            raise
        return good

    def requeue(self, claimed: Sequence[Claimed]) -> list[Claim]:
        """Give delivered messages back, or to the dead letters if that happened too often.

        Returns the claims that were not this session's any more.
        """
        dead = [item for item in claimed if self._is_returned_too_often(item, item.deliveries + 1)]
        back = [item for item in claimed if item not in dead] if dead else claimed
        lost = self.release([Release(item.claim) for item in back])
        return lost + self.dead_letter(dead, "delivery_limit")

    def policy(self, queue: str) -> QueuePolicy:
        """Return what a queue's arguments ask for; the plain policy if it is gone."""
        record = self._record(queue)
        return policy_of(record.arguments) if record else QueuePolicy()

    def _is_returned_too_often(self, claimed: Claimed, returns: int) -> bool:
        limit = self.policy(claimed.claim.queue).delivery_limit
        return limit is not None and returns > limit

    def dead_letter(self, claimed: Sequence[Claimed], reason: Reason) -> list[Claim]:
        """Take claimed messages out of their queues, into the dead-letter exchanges if there are.

        Acks and puts are one commit. Returns the claims that were not this session's any more;
        those messages are their next owner's. What has grown too large to be stored, by its record
        of deaths, goes to quarantine: nothing stays at the head of its queue for ever.
        """
        readable = [item for item in claimed if not isinstance(item.content, Malformed)]
        for item in claimed:
            if isinstance(item.content, Malformed):
                self.quarantine(item, item.content.reason)
        if not readable:
            return []
        acks = [item.claim for item in readable]
        while True:
            burials, expect = self.burials(readable, reason)
            try:
                self.publish(burials, acks=acks, expect=expect)
            except Conflict:
                continue
            except (LeaseLostError, EncodeError) as error:
                if len(acks) == 1:
                    if isinstance(error, LeaseLostError):
                        return acks
                    self.quarantine(readable[0], str(error))
                    return []
                return [claim for item in readable for claim in self.dead_letter([item], reason)]
            return []

    def burials(
        self, claimed: Sequence[Claimed], reason: Reason
    ) -> tuple[list[Publication], dict[str, int]]:
        """Return what goes to the dead-letter exchanges, and the documents that say so."""
        publications: list[Publication] = []
        expect: dict[str, int] = {}
        for item in claimed:
            queue = item.claim.queue
            record, expect[queue_key(queue)] = self.directory.known(queue)
            if record is not None and not isinstance(item.content, Malformed):
                publications += self._burials(record, item.content, reason)
        return publications, expect

    @staticmethod
    def _burials(record: QueueRecord, envelope: Envelope, reason: Reason) -> list[Publication]:
        policy = policy_of(record.arguments)
        if policy.dead_letter_exchange is None:
            return []
        dead = buried(
            envelope,
            queue=record.name,
            reason=reason,
            exchange=policy.dead_letter_exchange,
            routing_key=policy.dead_letter_routing_key,
            now=time.time(),
        )
        return [Burial(dead)]

    def quarantine(self, claimed: Claimed, reason: str) -> None:
        """Move what cannot go on to the quarantine queue, with the reason in a header.

        That is the bytes that are no envelope, or the body of a message that cannot be stored.
        """
        put = _quarantined(claimed.claim.queue, claimed.content, reason)
        self.store.commit(Batch([put], [claimed.claim], session=self.session))

    def expire(self, queues: Collection[str], limit: int = 100) -> bool:
        """Dead-letter what is out of time at the head of `queues`; True if there may be more."""
        wants = [Want(queue, limit, expired_only=True) for queue in queues]
        if not wants:
            return False
        claimed = self.store.claim(wants, self.session, limit)
        try:
            self.dead_letter(claimed, "expired")
        except KombuError:
            self.release([Release(item.claim, is_delivered=False) for item in claimed])
            raise
        return len(claimed) >= limit

    def _record(self, queue: str) -> QueueRecord | None:
        try:
            return self.directory.queue(queue, fresh=False)
        except NotFoundError:
            return None


def _quarantined(queue: str, content: Envelope | Malformed, reason: str) -> Put:
    envelope = Envelope(
        content.raw if isinstance(content, Malformed) else content.body,
        {"content_type": "application/octet-stream", "content_encoding": "binary"},
        {"x-quarantine-queue": queue, "x-quarantine-reason": reason},
        "",
        QUARANTINE,
    )
    return Put(QUARANTINE, envelope)


def lost_text(claims: Sequence[Claim]) -> str:
    """Say which claims a session does not have any more."""
    queues = ", ".join(sorted({claim.queue for claim in claims}))
    return (
        f"The claim on {len(claims)} message(s) of {queues} ran out before they were settled; "
        "they were or will be redelivered"
    )
