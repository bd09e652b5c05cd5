"""The one tree of errors that everything here raises.

    KombuError
    ├── PluginError
    │   ├── TransportNotFoundError          no installed plugin serves the scheme
    │   └── PluginLoadError                 a plugin is installed and broken
    ├── ConfigurationError (ValueError)     a bad URL, an unknown option
    ├── UnsupportedError                    the transport cannot do what was asked
    ├── NotBoundError                       an operation on a declaration without a channel
    ├── LimitExceededError
    │   ├── ConnectionLimitExceededError
    │   └── ChannelLimitExceededError
    ├── BrokerError
    │   ├── OperationalError                                              retryable
    │   │   ├── ConnectError (ConnectionError)       never connected      retryable
    │   │   │   └── AuthenticationError              refused by name
    │   │   └── ConnectionLostError (ConnectionError) was connected       retryable
    │   │       └── SessionLostError                 its lease ran out    retryable
    │   ├── ConsumerCancelledError               the broker ended it      retryable
    │   └── ChannelError                             AMQP's reply code and text
    │       ├── NotFoundError                        404
    │       ├── AccessRefusedError                   403
    │       ├── ResourceLockedError                  405
    │       └── PreconditionFailedError              406
    ├── DeliveryError
    │   ├── MessageStateError               settled twice
    │   ├── LeaseLostError                  the claim belongs to somebody else by now
    │   ├── UnroutableError                 mandatory, and no queue wanted it
    │   ├── PublishRejectedError            the broker refused to store it (a negative confirm)
    │   └── BatchPublishError               some of a batch were not stored, and which
    ├── OperationTimeoutError (TimeoutError)                              retryable
    │   └── NothingCameError                nothing to handle within the timeout of a drain
    ├── ClaimStoreError                     the store of large bodies failed  retryable
    └── CodecError
        ├── EncodeError
        ├── DecodeError
        │   ├── ContentTooLargeError        a cap on size, depth or ratio was passed
        │   └── InvalidMessageError         it is not of the consumer's type, and which field
        ├── ContentRefusedError             a content type that the consumer does not accept
        │   └── SealError                   changed, unsigned, too old, or of an unknown key
        └── UnknownCodecError (LookupError) no serializer or compression of that name

An error that comes from a driver keeps it as ``__cause__``; an error of the application's own
callback is never one of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from kombu_core.message import Envelope


class KombuError(Exception):
    """The root of the tree."""

    #: Whether the same call may succeed later without anybody changing anything.
    is_retryable: ClassVar[bool] = False


# -- plugins and configuration ---------------------------------------------------------------


class PluginError(KombuError):
    """A plugin could not be used."""


class TransportNotFoundError(PluginError):
    """No installed plugin serves a URL scheme."""

    def __init__(self, scheme: str, installed: Sequence[str] = (), hint: str = "") -> None:
        self.scheme = scheme
        self.installed = tuple(installed)
        self.hint = hint
        known = ", ".join(installed) or "none"
        text = f"No transport is installed for {scheme!r} (installed: {known})."
        super().__init__(f"{text} {hint}" if hint else text)


class PluginLoadError(PluginError):
    """A plugin is installed for the scheme, and loading it failed; the cause is chained."""

    def __init__(self, entry_point: str, distribution: str, reason: str) -> None:
        self.entry_point = entry_point
        self.distribution = distribution
        super().__init__(f"The plugin {entry_point!r} of {distribution} cannot be used: {reason}")


class ConfigurationError(KombuError, ValueError):
    """What the caller configured makes no sense; the text names it and what is known."""


class UnsupportedError(KombuError):
    """A transport was asked for a feature that it does not have."""

    def __init__(self, feature: str, transport: str, detail: str = "") -> None:
        self.feature = feature
        self.transport = transport
        text = f"The {transport} transport does not support {feature}"
        super().__init__(f"{text}: {detail}" if detail else f"{text}.")


class NotBoundError(KombuError):
    """An exchange or a queue without a channel was asked for an operation on a broker."""


class LimitExceededError(KombuError):
    """Everything that a pool may hand out is in use."""


class ConnectionLimitExceededError(LimitExceededError):
    """All connections of the pool are in use."""


class ChannelLimitExceededError(LimitExceededError):
    """All channels of the pool, or of the connection, are in use."""


# -- the broker ------------------------------------------------------------------------------


class BrokerError(KombuError):
    """The broker, or the way to it, failed."""


class OperationalError(BrokerError):
    """The connection to the broker failed; another attempt may succeed."""

    is_retryable = True


class ConnectError(OperationalError, ConnectionError):
    """No connection could be made."""


class AuthenticationError(ConnectError):
    """The broker refused the credentials."""

    is_retryable = False


class ConnectionLostError(OperationalError, ConnectionError):
    """An established connection broke."""


class SessionLostError(ConnectionLostError):
    """The lease of this connection's session ran out, so its claims belong to others now."""


class ConsumerCancelledError(BrokerError):
    """The broker ended a subscription, because its queue was deleted or moved (basic.cancel).

    The channel stays open; consuming again declares the queue again.
    """

    is_retryable = True

    def __init__(self, queue: str, consumer_tag: str) -> None:
        self.queue = queue
        self.consumer_tag = consumer_tag
        super().__init__(
            f"The broker ended the consumer {consumer_tag!r} of queue {queue!r}: the queue is gone"
        )


class ChannelError(BrokerError):
    """The broker refused a method and closed the channel (AMQP 0-9-1, section 1.2).

    `code` and `text` are AMQP's reply code and reply text.
    """

    default_code: ClassVar[int] = 0

    def __init__(self, text: str, code: int | None = None) -> None:
        self.text = text
        self.code = self.default_code if code is None else code
        super().__init__(f"{text} ({self.code})")


class AccessRefusedError(ChannelError):
    """403: the name is reserved, or the user may not do that."""

    default_code = 403


class NotFoundError(ChannelError):
    """404: there is no such exchange or queue."""

    default_code = 404


class ResourceLockedError(ChannelError):
    """405: the queue is exclusive to another connection."""

    default_code = 405


class PreconditionFailedError(ChannelError):
    """406: unequal redeclaration, if-unused, if-empty, or an unknown delivery tag."""

    default_code = 406


# -- deliveries ------------------------------------------------------------------------------


class DeliveryError(KombuError):
    """A message was not published, or not settled."""


class MessageStateError(DeliveryError):
    """The message was acknowledged, rejected or requeued already."""


class LeaseLostError(DeliveryError):
    """The claim on a message ran out before it was settled, so it was or will be redelivered."""


class UnroutableError(DeliveryError):
    """A mandatory message reached no queue; `envelope` is what came back."""

    def __init__(self, envelope: Envelope, code: int = 312, text: str = "NO_ROUTE") -> None:
        self.envelope = envelope
        self.code = code
        self.text = text
        super().__init__(
            f"No queue is bound to exchange {envelope.exchange!r} "
            f"for routing key {envelope.routing_key!r} ({code} {text})"
        )


class PublishRejectedError(DeliveryError):
    """The broker answered a publish with a negative confirm: the message is not stored."""


class BatchPublishError(DeliveryError):
    """Some messages of a batch were not stored.

    `failed` maps the position in the batch to the reason; every other message is stored.
    """

    def __init__(self, failed: Mapping[int, Exception], size: int) -> None:
        self.failed = dict(failed)
        self.size = size
        first = next(iter(self.failed.values()), None)
        super().__init__(f"{len(self.failed)} of {size} messages were not stored; first: {first}")


class OperationTimeoutError(KombuError, TimeoutError):
    """Nothing came, or nothing was confirmed, before the deadline of the call."""

    is_retryable = True


class ClaimStoreError(KombuError):
    """The store of bodies that are too large for a broker cannot be written or read now."""

    is_retryable = True


class NothingCameError(OperationTimeoutError):
    """Draining found nothing to handle in time; unlike what a callback's own call may raise."""


# -- codecs ----------------------------------------------------------------------------------


class CodecError(KombuError):
    """A body could not be turned into bytes, or back."""


class EncodeError(CodecError):
    """The value cannot be written by the serializer."""


class DecodeError(CodecError):
    """The bytes are not what their content type says."""


class ContentTooLargeError(DecodeError):
    """Decoding would pass a cap on size, nesting depth or compression ratio."""


class InvalidMessageError(DecodeError):
    """What was decoded is not of the type that the consumer wants.

    `field` tells where, as `items[3].price`, and is empty for all of it; `reason` tells why.
    """

    def __init__(self, field: str, reason: str) -> None:
        self.field = field.removeprefix(".")
        self.reason = reason
        super().__init__(f"{self.field}: {reason}" if self.field else reason)


class ContentRefusedError(CodecError):
    """The content type is not one that the consumer accepts."""


class SealError(ContentRefusedError):
    """A signed or encrypted body was changed, is too old, or was sealed by a key not known here."""


class UnknownCodecError(CodecError, LookupError):
    """No serializer or compression of that name is registered."""


class _Hidden(Protocol):
    """A text that shows itself only to who asks."""

    def reveal(self) -> str: ...


@contextmanager
def map_errors(
    mapping: Mapping[type[BaseException], type[BrokerError]],
    *,
    redact: Iterable[_Hidden] = (),
) -> Iterator[None]:
    """Turn a driver's exceptions into ours at its border, the original chained.

    The first entry of `mapping` whose key is a base of the exception decides, so specific
    types come first. `redact` are secrets, as `kombu_core.url.Secret`, that must not survive
    into the text.
    """
    try:
        yield
    except tuple(mapping) as exc:
        text = str(exc) or type(exc).__name__
        for hidden in redact:
            secret = hidden.reveal()
            if secret and secret in text:
                text = text.replace(secret, "**")
                # The driver's error is chained to ours, so it must not tell it either.
                exc.args = (text,)
        for driver_type, ours in mapping.items():
            if isinstance(exc, driver_type):
                raise ours(text) from exc
        raise
