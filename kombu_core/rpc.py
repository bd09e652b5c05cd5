"""The side of remote procedure calls that makes them; and the names of the other side."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

from kombu_core.capabilities import DIRECT_REPLY_QUEUE
from kombu_core.consumer import Consumer
from kombu_core.entity import Queue
from kombu_core.exceptions import ConnectionLostError, KombuError, OperationTimeoutError
from kombu_core.forking import tell_of_forks
from kombu_core.message import Message
from kombu_core.mixins import ConsumerMixin
from kombu_core.producer import Producer
from kombu_core.retry import Backoff
from kombu_core.rpc_server import RPCServer
from kombu_core.rpc_wire import RPCError, read_answer, to_queue, write_call

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from kombu_core.connection import Connection
    from kombu_core.transport import Channel

__all__ = ["RPCClient", "RPCError", "RPCServer"]

logger = logging.getLogger(__name__)

#: Seconds that a call may take unless it says otherwise.
DEFAULT_TIMEOUT: Final = 30.0
#: Seconds between two looks for calls whose time is over and that nobody waits for.
_SWEEP_INTERVAL: Final = 0.5
#: Seconds that closing waits for the thread; it is a daemon and may also be left behind.
_JOIN_TIMEOUT: Final = 5.0


class _Receiver(ConsumerMixin):
    """The thread that receives replies, and what sending needs to know of its connection."""

    restart_backoff = Backoff(start=0.0, step=0.5, maximum=5.0)

    def __init__(self, client: RPCClient) -> None:
        self.connection = client.connection
        #: Calls can be sent; or never any more.
        self.ready = threading.Event()
        self.has_given_up = False
        self.error: BaseException | None = None
        self.reply_queue = Queue()
        self._client = client
        self._lock = threading.Lock()
        self._current: Connection | None = None
        self._producer: Producer | None = None
        #: What consumes without a queue; only calls that are published on it are answered to it.
        self._direct: Channel | None = None
        self._thread = threading.Thread(target=self._run, name="rpc-replies", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the thread, and its connection with it."""
        self.should_stop = True
        current = self._current
        if current is not None:
            current.close()  # Wakes it.
        if self._thread is not threading.current_thread():
            self._thread.join(_JOIN_TIMEOUT)

    def _run(self) -> None:
        try:
            self.run(safety_interval=_SWEEP_INTERVAL)
        except Exception as error:
            self.error, self.has_given_up = error, True
            logger.exception("No replies can be received")
            self.ready.set()

    def producer(self) -> Producer:
        """Return a producer on the connection that replies come by."""
        with self._lock:
            if self._current is None:
                raise ConnectionLostError("The connection was lost in this moment")
            if self._producer is None or not self._producer.channel.is_open:
                if self._direct is not None and not self._direct.is_open:
                    raise ConnectionLostError("The channel was lost that replies come by")
                self._producer = Producer(self._direct or self._current.channel())
            return self._producer

    def get_consumers(
        self,
        Consumer: Callable[..., Consumer],  # noqa: N803
        channel: Channel,
    ) -> list[Consumer]:
        if channel.transport.capabilities.direct_reply:
            self._direct = channel
            self.reply_queue = Queue(DIRECT_REPLY_QUEUE, no_declare=True)
        else:
            self._direct = None
            self.reply_queue = Queue(f"rpc.{uuid4()}", durable=False, exclusive=True)
        return [
            Consumer(
                [self.reply_queue],
                on_message=self._client.receive,
                no_ack=True,
                accept=self._client.accept,
            )
        ]

    def on_consume_ready(
        self, connection: Connection, channel: Channel, consumers: list[Consumer], **kwargs: Any
    ) -> None:
        with self._lock:
            self._current, self._producer = connection, None
        self.ready.set()

    def on_consume_end(self, connection: Connection, channel: Channel) -> None:
        self.ready.clear()
        with self._lock:
            self._current = self._producer = self._direct = None
        self._client.fail_all(ConnectionLostError("The connection was lost before the reply came"))

    def on_connection_error(self, exc: BaseException, interval: float) -> None:
        self.error = exc
        super().on_connection_error(exc, interval)

    def on_iteration(self) -> None:
        if self._direct is not None and not self._direct.is_open:
            # By an error of some call; the others' replies have nowhere to come to now.
            raise ConnectionLostError("The channel was lost that replies come by")
        self._client.sweep()


class _Call(NamedTuple):
    """One that was sent and not answered yet."""

    future: Future[Any]
    deadline: float
    text: str


class RPCClient:
    """Calls procedures; any number of threads may, at the same time.

    It has a connection of its own, with a queue for replies that nobody else can read, or with none
    where the broker replies directly, and a daemon thread that receives them. If that connection is
    lost, calls that wait for a reply raise `ConnectionLostError`, and later ones use a new one.

    Args:
        connection: Only a copy of it is connected, by the first call.
        queue: That of the server; a name stands for a durable queue.
        timeout: Seconds that a call may take unless it says otherwise.
        accept: Serializers or content types that replies may have.
        serializer: Of calls.
    """

    def __init__(
        self,
        connection: Connection,
        queue: Queue | str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        accept: Collection[str] = ("json",),
        serializer: str = "json",
    ) -> None:
        self.connection = connection
        self.queue = to_queue(queue)
        self.timeout = timeout
        #: Replies that came when nobody waited for them any more.
        self.late_replies = 0
        self.accept = accept
        self._serializer = serializer
        self.forked()
        tell_of_forks(self)

    def forked(self) -> None:
        """Begin without calls and connection, closing nothing: after a fork."""
        self._lock = threading.Lock()
        self._calls: dict[str, _Call] = {}
        self._receiver: _Receiver | None = None

    # -- calling ---------------------------------------------------------------------------

    def call(
        self, procedure: str, /, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Any:
        """Call a procedure, and return what it returns.

        Args:
            procedure: Its name on the server.
            *args: For it.
            timeout: Seconds, of all together; None for the client's. It is not handed on: use
                `submit` for a procedure that has an argument of this name.
            **kwargs: For it.

        Raises:
            RPCError: The procedure raised, or there is no such procedure.
            OperationTimeoutError: There was no reply in time. It may have been executed or not.
            ConnectionLostError: The connection broke. It may have been executed or not.
            EncodeError: An argument cannot be sent.
        """
        seconds = self.timeout if timeout is None else timeout
        deadline = monotonic() + seconds
        future = self.submit(procedure, args, kwargs, timeout=seconds)
        try:
            return future.result(max(0.0, deadline - monotonic()))
        except TimeoutError:
            if not future.cancel():
                return future.result()  # It came in this very moment, if only as an error.
            raise OperationTimeoutError(_no_reply(procedure, seconds)) from None

    def submit(
        self,
        procedure: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> Future[Any]:
        """Send a call, and return at once when the broker has it, with a future of the result.

        Arguments and errors as `call`; those that the reply brings are the future's. Cancelling
        it drops the reply.
        """
        seconds = self.timeout if timeout is None else timeout
        deadline = monotonic() + seconds
        receiver = self._ready_receiver(deadline)
        future: Future[Any] = Future()
        ident = str(uuid4())
        with self._lock:
            self._calls[ident] = _Call(future, deadline, _no_reply(procedure, seconds))
        future.add_done_callback(lambda _: self._forget(ident))
        try:
            self._send(receiver, procedure, args, kwargs, deadline, ident)
        except BaseException:
            future.cancel()
            raise
        return future

    def cast(self, procedure: str, /, *args: Any, **kwargs: Any) -> None:
        """Call a procedure without wanting to know what comes of it.

        Returns when the broker has the call, which then waits for a server however long it takes.
        """
        deadline = monotonic() + self.timeout
        self._send(self._ready_receiver(deadline), procedure, args, kwargs, deadline, None)

    def _send(
        self,
        receiver: _Receiver,
        procedure: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        deadline: float,
        ident: str | None,
    ) -> None:
        left = max(0.001, deadline - monotonic())
        producer = receiver.producer()
        expires = producer.channel.transport.capabilities.message_ttl and ident is not None
        exchange = self.queue.exchange
        by_name = exchange is None or not exchange.name
        producer.publish(
            write_call(args, kwargs),
            self.queue.name if by_name else self.queue.routing_key,
            exchange="" if exchange is None else exchange,
            declare=[self.queue],
            serializer=self._serializer,
            type=procedure,
            reply_to=None if ident is None else receiver.reply_queue.name,
            correlation_id=ident,
            # A server need not work on what nobody waits for.
            expiration=left if expires else None,
            timeout=left,
        )

    def _ready_receiver(self, deadline: float) -> _Receiver:
        with self._lock:
            receiver = self._receiver
            if receiver is None or not receiver.is_alive():
                receiver = self._receiver = _Receiver(self)
                receiver.start()
        if not receiver.ready.wait(max(0.0, deadline - monotonic())):
            raise OperationTimeoutError("There was no connection in time") from receiver.error
        if receiver.has_given_up and receiver.error is not None:
            raise receiver.error
        return receiver

    # -- receiving -------------------------------------------------------------------------

    def _forget(self, ident: str) -> None:
        with self._lock:
            self._calls.pop(ident, None)

    def receive(self, message: Message) -> None:
        """Give a reply to whoever waits for it."""
        with self._lock:
            call = self._calls.pop(message.properties.get("correlation_id", ""), None)
            if call is None:
                self.late_replies += 1
        if call is None:
            return
        try:
            result = read_answer(message.payload)
        except KombuError as error:
            _resolve(call.future, error=error)
        else:
            _resolve(call.future, result)

    def sweep(self) -> None:
        """End the calls whose time is over, also where nobody looks at the future."""
        now = monotonic()
        with self._lock:
            over = [call for call in self._calls.values() if call.deadline <= now]
        for call in over:
            _resolve(call.future, error=OperationTimeoutError(call.text))

    def fail_all(self, error: Exception) -> None:
        """End all calls that wait for a reply."""
        with self._lock:
            calls = list(self._calls.values())
        for call in calls:
            _resolve(call.future, error=error)

    # -- the rest --------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connection; calls that wait raise ConnectionLostError. Idempotent.

        It can be used again.
        """
        with self._lock:
            receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.stop()
        self.fail_all(ConnectionLostError("The client was closed"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RPCClient: {self.queue.name}, {len(self._calls)} calls wait>"


def _no_reply(procedure: str, seconds: float) -> str:
    return f"There was no reply from {procedure!r} within {seconds:g} s"


def _resolve(future: Future[Any], result: Any = None, error: Exception | None = None) -> None:
    try:
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
    except InvalidStateError:
        pass  # Nobody waits for it any more.
