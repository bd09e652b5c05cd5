"""AMQP messaging in Python, the same on every broker.

The names below are imported when they are first used (PEP 562), so that `import kombu_core` alone
costs next to nothing; type checkers read the imports that follow `TYPE_CHECKING`.
"""

from __future__ import annotations

from importlib import import_module

# Type checkers take a name of this spelling for true; `typing` would cost more than all else here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from kombu_core.connection import BrokerConnection, Connection
    from kombu_core.consumer import Consumer
    from kombu_core.entity import Exchange, Queue, binding
    from kombu_core.exceptions import KombuError
    from kombu_core.message import Message
    from kombu_core.patterns import eventloop, uuid
    from kombu_core.pools import connections, producers
    from kombu_core.producer import Producer

_HOMES = {
    "BrokerConnection": "connection",
    "Connection": "connection",
    "Consumer": "consumer",
    "Exchange": "entity",
    "KombuError": "exceptions",
    "Message": "message",
    "Producer": "producer",
    "Queue": "entity",
    "binding": "entity",
    "connections": "pools",
    "eventloop": "patterns",
    "producers": "pools",
    "uuid": "patterns",
}

__all__ = [
    "BrokerConnection",
    "Connection",
    "Consumer",
    "Exchange",
    "KombuError",
    "Message",
    "Producer",
    "Queue",
    "binding",
    "connections",
    "eventloop",
    "producers",
    "uuid",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name from its module."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
