"""What travels: the envelope that is published and stored, and the message that is received."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict

from kombu_core.exceptions import BrokerError, MessageStateError
from kombu_core.serialization import Registry, default_registry

if TYPE_CHECKING:
    from logging import Logger

    from kombu_core.transport import Channel

#: `basic.properties.delivery_mode`: kept only while the broker runs / written to disk.
TRANSIENT: Final = 1
PERSISTENT: Final = 2


_NOT_DECODED: Final = object()


class Properties(TypedDict, total=False):
    """The basic properties of AMQP 0-9-1 (section 1.8), without the headers table.

    What is not set is absent. `expiration` is milliseconds as a decimal string, as on the wire;
    `timestamp` is whole seconds since 1970.
    """

    content_type: str
    content_encoding: str
    delivery_mode: int
    priority: int
    correlation_id: str
    reply_to: str
    expiration: str
    message_id: str
    timestamp: int
    type: str
    user_id: str
    app_id: str
    cluster_id: str


class Envelope(NamedTuple):
    """A message as it was published: immutable, shared by all queues that it reaches."""

    body: bytes
    properties: Properties
    headers: Mapping[str, Any]
    exchange: str = ""
    routing_key: str = ""


class Malformed(NamedTuple):
    """Stored bytes that are no envelope, and why; they end in quarantine."""

    raw: bytes
    reason: str


class Message:
    """A delivery to the application.

    Settle it once, with `ack`, `reject` or `requeue`; a second time raises `MessageStateError`.
    Settling is allowed from any thread.
    """

    __slots__ = (
        "_headers",
        "_on_settled",
        "_payload",
        "_state",
        "accept",
        "channel",
        "consumer_tag",
        "convert",
        "delivery_tag",
        "envelope",
        "redelivered",
        "registry",
    )

    def __init__(
        self,
        channel: Channel,
        envelope: Envelope,
        delivery_tag: int,
        redelivered: bool = False,
        consumer_tag: str = "",
        is_settled: bool = False,
    ) -> None:
        self.channel = channel
        self.envelope = envelope
        self.delivery_tag = delivery_tag
        self.redelivered = redelivered
        self.consumer_tag = consumer_tag
        #: Content types that `payload` may decode; None: those that are enabled in the registry.
        self.accept: Collection[str] | None = None
        #: What makes the payload of the decoded body, if it is not the same.
        self.convert: Callable[[Any], Any] | None = None
        #: What decodes it.
        self.registry: Registry = default_registry
        self._state = "ACK" if is_settled else "RECEIVED"
        self._payload: Any = _NOT_DECODED
        self._headers: dict[str, Any] | None = None
        self._on_settled: Callable[..., Any] | None = None

    # -- what came ------------------------------------------------------------------------------

    @property
    def body(self) -> bytes:
        """The bytes as they were published, possibly compressed."""
        return self.envelope.body

    @property
    def properties(self) -> Properties:
        """AMQP's basic properties; those that the publisher did not set are absent."""
        return self.envelope.properties

    @property
    def headers(self) -> dict[str, Any]:
        """The headers table; a copy of its own, so that it may be changed."""
        if self._headers is None:
            self._headers = dict(self.envelope.headers)
        return self._headers

    @property
    def content_type(self) -> str | None:
        """MIME type of the body."""
        return self.envelope.properties.get("content_type")

    @property
    def content_encoding(self) -> str | None:
        """Character set of the body, or `binary`."""
        return self.envelope.properties.get("content_encoding")

    @property
    def delivery_info(self) -> dict[str, Any]:
        """Where it came from: exchange, routing_key, redelivered, consumer_tag, priority."""
        return {
            "exchange": self.envelope.exchange,
            "routing_key": self.envelope.routing_key,
            "redelivered": self.redelivered,
            "consumer_tag": self.consumer_tag,
            "priority": self.envelope.properties.get("priority"),
        }

    @property
    def payload(self) -> Any:
        """The decoded body; decoded once, at the first look.

        Raises:
            ContentRefusedError: The content type is not accepted.
            DecodeError: The body is not what its content type says.
            InvalidMessageError: It is not of the type that the consumer wants.
        """
        if self._payload is not _NOT_DECODED:
            return self._payload
        envelope = self.envelope
        body = envelope.body
        if envelope.headers and "compression" in envelope.headers:
            body = self.uncompressed()
        properties = envelope.properties
        payload = self.registry.loads(
            body,
            properties.get("content_type"),
            properties.get("content_encoding"),
            accept=self.accept,
        )
        if self.convert is not None:
            payload = self.convert(payload)
        self._payload = payload
        return payload

    def uncompressed(self) -> bytes:
        """Return the body as its content type describes it.

        Raises:
            UnknownCodecError: It is compressed in a way that is not known here.
            DecodeError: It is not what its header `compression` says, or becomes too large.
        """
        method = self.envelope.headers.get("compression")
        body = self.envelope.body
        return body if method is None else self.registry.decompress(body, method)

    def decode(self) -> Any:
        """Return `payload`; kombu's name for it."""
        return self.payload

    # -- settling -------------------------------------------------------------------------------

    @property
    def acknowledged(self) -> bool:
        """Whether it was settled, in whichever way."""
        return self._state != "RECEIVED"

    def ack(self, multiple: bool = False) -> None:
        """Acknowledge: it is done, the broker forgets it. `multiple`: and all delivered before.

        Raises:
            MessageStateError: It was settled before.
            LeaseLostError: The claim on it ran out; somebody else has it or will.
        """
        if self._state != "RECEIVED":
            raise self._settled_twice()
        self.channel.basic_ack(self.delivery_tag, multiple)
        self._state = "ACK"
        if self._on_settled is not None:
            self._report("ack")

    def reject(self, requeue: bool = False) -> None:
        """Refuse: it is dropped, or dead-lettered where the queue says so. Raises as `ack`."""
        if self._state != "RECEIVED":
            raise self._settled_twice()
        self.channel.basic_reject(self.delivery_tag, requeue)
        self._state = "REQUEUED" if requeue else "REJECTED"
        if self._on_settled is not None:
            self._report("requeue" if requeue else "reject")

    def requeue(self) -> None:
        """Put it back to where it was in its queue, marked redelivered. Raises as `ack`."""
        self.reject(requeue=True)

    def ack_log_error(
        self,
        logger: Logger,
        errors: tuple[type[BaseException], ...] = (BrokerError,),
        multiple: bool = False,
    ) -> None:
        """`ack`, with an error of the types in `errors` logged instead of raised."""
        try:
            self.ack(multiple)
        except errors as exc:
            logger.critical("Cannot acknowledge %r: %r", self.delivery_tag, exc, exc_info=True)

    def reject_log_error(
        self,
        logger: Logger,
        errors: tuple[type[BaseException], ...] = (BrokerError,),
        requeue: bool = False,
    ) -> None:
        """`reject`, with an error of the types in `errors` logged instead of raised."""
        try:
            self.reject(requeue)
        except errors as exc:
            logger.critical("Cannot reject %r: %r", self.delivery_tag, exc, exc_info=True)

    def observe(self, on_settled: Callable[..., Any]) -> None:
        """Call the hook `kombu_message_settled` when it is settled."""
        self._on_settled = on_settled

    def _report(self, outcome: str) -> None:
        if self._on_settled is not None:
            self._on_settled(transport=self.channel.transport, message=self, outcome=outcome)

    def _settled_twice(self) -> MessageStateError:
        return MessageStateError(f"Message already acknowledged with state: {self._state}")

    def __repr__(self) -> str:
        return (
            f"<Message {self._state} tag={self.delivery_tag} {self.content_type} "
            f"{len(self.envelope.body)} bytes from {self.envelope.exchange!r}"
            f"/{self.envelope.routing_key!r}>"
        )
