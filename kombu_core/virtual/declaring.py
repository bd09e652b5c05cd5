"""The methods of a virtual channel that declare, bind, purge and delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kombu_core.exceptions import NotFoundError
from kombu_core.transport import QueueDeclareOk
from kombu_core.virtual.method import Method, Methods
from kombu_core.virtual.policy import check_arguments, policy_of
from kombu_core.virtual.routing import Destination
from kombu_core.virtual.topology import (
    ExchangeRecord,
    QueueRecord,
    check_access,
    check_not_default,
    check_type,
)

Arguments = Mapping[str, Any]


class TopologyMethods(Methods):
    """The part of the Channel contract that is about exchanges and queues."""

    # -- exchanges -------------------------------------------------------------------------

    def exchange_declare(
        self,
        exchange: str,
        type: str = "direct",
        *,
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Arguments | None = None,
    ) -> None:
        record = ExchangeRecord(
            exchange, type, durable, auto_delete, internal, dict(arguments or {})
        )
        with Method(self) as parts:
            if passive:
                check_not_default(exchange)
                parts.directory.exchange(exchange)
            else:
                parts.declarations.declare_exchange(record)

    def exchange_delete(self, exchange: str, *, if_unused: bool = False) -> None:
        with Method(self) as parts:
            parts.declarations.delete_exchange(exchange, if_unused=if_unused)

    def exchange_bind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        arguments: Arguments | None = None,
    ) -> None:
        with Method(self) as parts:
            target = Destination("exchange", destination)
            parts.declarations.bind(source, target, routing_key, arguments)

    def exchange_unbind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        arguments: Arguments | None = None,
    ) -> None:
        with Method(self) as parts:
            target = Destination("exchange", destination)
            parts.declarations.unbind(source, target, routing_key, arguments)

    # -- queues ----------------------------------------------------------------------------

    def queue_declare(
        self,
        queue: str = "",
        *,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Arguments | None = None,
    ) -> QueueDeclareOk:
        with Method(self) as parts:
            if passive:
                record = parts.directory.queue(queue)
                check_access(record, parts.session.id)
            else:
                wanted = dict(arguments or {})
                if exclusive:
                    parts.session.begin()
                owner = parts.session.id if exclusive else ""
                # What goes with its connection does not outlive the broker (RabbitMQ).
                is_durable = durable and not exclusive
                record = QueueRecord(queue, is_durable, auto_delete, owner, wanted)

                def check() -> None:
                    check_arguments(record.name, wanted, self._transport.capabilities)
                    check_type(record)

                queue = parts.declarations.declare_queue(record, check)
            policy = policy_of(record.arguments)
            if policy.message_ttl is not None:
                parts.session.watch_expiry(queue)
            if policy.expires is not None and not passive:
                parts.session.use_queue(queue, policy.expires)
            return QueueDeclareOk(
                queue,
                parts.broker.store.count(queue).ready,
                len(parts.declarations.consumers(queue)),
            )

    def queue_bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Arguments | None = None,
    ) -> None:
        with Method(self) as parts:
            target = Destination("queue", queue)
            parts.declarations.bind(exchange, target, routing_key, arguments)

    def queue_unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Arguments | None = None,
    ) -> None:
        with Method(self) as parts:
            target = Destination("queue", queue)
            parts.declarations.unbind(exchange, target, routing_key, arguments)

    def queue_purge(self, queue: str) -> int:
        with Method(self) as parts:
            check_access(parts.directory.queue(queue), parts.session.id)
            return parts.broker.store.purge(queue)

    def queue_delete(self, queue: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        with Method(self) as parts:
            try:
                check_access(parts.directory.queue(queue), parts.session.id)
            except NotFoundError:
                return 0
            return parts.declarations.delete_queue(queue, if_unused=if_unused, if_empty=if_empty)
