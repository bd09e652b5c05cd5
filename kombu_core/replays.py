"""Refusing sealed messages that come again: what was handled is remembered by the seal's own id."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kombu_core.exceptions import SealError
from kombu_core.idempotence import Seen, idempotent
from kombu_core.message import Message
from kombu_core.sealing import read_seal

if TYPE_CHECKING:
    from kombu_core.consumer import Callback

__all__ = ["refuse_replays", "sealed_id"]

logger = logging.getLogger(__name__)


def sealed_id(message: Message) -> str:
    """Return the id that a sealed message was given when it was sealed, and that nobody can change.

    Raises:
        SealError: It is not sealed.
    """
    seal = read_seal(message.uncompressed())
    return f"{seal.key_name}:{seal.ident.hex()}"


def refuse_replays(seen: Seen) -> Callable[[Callback], Callback]:
    """Let a consumer's callback handle each sealed message once; a decorator.

        @refuse_replays(MemorySeen(ttl=3600))
        def handle(body, message): ...

    A message that was handled is rejected when it comes again, and so goes to the dead letters of
    its queue, and it is logged. So is one that is not sealed, though a consumer should rather
    accept no others. A callback that raises may see its message again, as after a retry or
    a lost lease; so may one that is still at work, in another thread or process.

    Args:
        seen: Where ids are kept: as long as the serializer's `max_age`, or a replay that is older
            than the memory passes. For several processes it has to be a store that they share.
    """

    def decorate(callback: Callback) -> Callback:
        handle = idempotent(seen, identify=sealed_id, on_duplicate=_refuse)(callback)

        def checked(body: Any, message: Message) -> None:
            try:
                sealed_id(message)
            except SealError:
                _refuse(body, message)
            else:
                handle(body, message)

        return checked

    return decorate


def _refuse(body: Any, message: Message) -> None:
    logger.warning("Refused, as it is a replay or not sealed: %r", message)
    if not message.acknowledged:
        message.reject()
