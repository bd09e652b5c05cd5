"""The hooks that a plugin may implement: the whole surface between kombu_core and its plugins.

A plugin is a module (or object) named by an entry point of the group `kombu_core.transports`; the
entry point's name is the URL scheme that it serves. It implements what it needs of this file with
the `hookimpl` marker, and may carry `KOMBU_CONTRACT = 1`, the contract's major version that it was
written for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    from kombu_core.compression import Compressor
    from kombu_core.message import Envelope, Message
    from kombu_core.serialization import Serializer
    from kombu_core.transport import Transport, TransportClass
    from kombu_core.virtual.routing import BindingTable

PROJECT: Final = "kombu_core"
#: Major version of the contracts (hooks, transport, store); a plugin for another one is refused.
CONTRACT_VERSION: Final = 1

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def kombu_transport(scheme: str) -> TransportClass | None:
    """Return the transport class that serves `scheme`, or None if this plugin does not."""


@hookspec
def kombu_exchange_types() -> Mapping[str, type[BindingTable]]:
    """Return exchange types to add to the virtual transports, by name (as `x-my-type`)."""
    raise NotImplementedError  # pluggy never calls a specification


@hookspec
def kombu_serializers() -> Mapping[str, Serializer]:
    """Return serializers to register, by name."""
    raise NotImplementedError


@hookspec
def kombu_compressors() -> Mapping[str, Compressor]:
    """Return compression methods to register, by name."""
    raise NotImplementedError


@hookspec
def kombu_connection_opened(transport: Transport) -> None:
    """Observe: a connection was made."""


@hookspec
def kombu_connection_lost(transport: Transport, error: BaseException) -> None:
    """Observe: a connection was found broken, or is replaced because it is; once for each."""


@hookspec
def kombu_message_publishing(transport: Transport, envelope: Envelope) -> None:
    """Observe: a message is about to be published."""


@hookspec
def kombu_message_published(
    transport: Transport, envelope: Envelope, error: BaseException | None
) -> None:
    """Observe: a publish was confirmed (`error` is None) or failed."""


@hookspec
def kombu_message_received(transport: Transport, message: Message) -> None:
    """Observe: a message is about to be given to its consumer."""


@hookspec
def kombu_message_settled(transport: Transport, message: Message, outcome: str) -> None:
    """Observe: the application settled a message: `ack`, `reject` or `requeue`."""
