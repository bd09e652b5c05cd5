"""Declaring, binding and deleting on one channel."""

from __future__ import annotations

from kombu_amqp import methods
from kombu_amqp.calls import ChannelCalls
from kombu_core.exceptions import UnsupportedError
from kombu_core.transport import Arguments, QueueDeclareOk


class ChannelTopology(ChannelCalls):
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
        types = self._transport.capabilities.exchange_types
        if not passive and type not in types:
            raise UnsupportedError("exchange_types", self._transport.capabilities.name, type)
        self._ask(
            methods.exchange_declare(
                exchange,
                type,
                passive=passive,
                durable=durable,
                auto_delete=auto_delete,
                internal=internal,
                arguments=arguments,
            )
        )

    def exchange_delete(self, exchange: str, *, if_unused: bool = False) -> None:
        self._call("exchange_delete", exchange, if_unused)

    def exchange_bind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        arguments: Arguments | None = None,
    ) -> None:
        self._ask(methods.exchange_bind(destination, source, routing_key, arguments))

    def exchange_unbind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        arguments: Arguments | None = None,
    ) -> None:
        self._ask(methods.exchange_unbind(destination, source, routing_key, arguments))

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
        method = methods.queue_declare(
            queue,
            passive=passive,
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=arguments,
        )
        return QueueDeclareOk(*self._ask(method))

    def queue_bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Arguments | None = None,
    ) -> None:
        self._ask(methods.queue_bind(queue, exchange, routing_key, arguments))

    def queue_unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Arguments | None = None,
    ) -> None:
        self._ask(methods.queue_unbind(queue, exchange, routing_key, arguments))

    def queue_purge(self, queue: str) -> int:
        return int(self._call("queue_purge", queue))

    def queue_delete(self, queue: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        return int(self._call("queue_delete", queue, if_unused, if_empty))
