"""A node: the process that a mailbox's commands are for."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from kombu_core.consumer import Consumer
from kombu_core.exceptions import ConfigurationError, EncodeError, ResourceLockedError
from kombu_core.message import Message

if TYPE_CHECKING:
    from kombu_core.pidbox import Mailbox
    from kombu_core.transport import Channel

logger = logging.getLogger(__name__)

#: Inside of the class the name is that of a method.
MadeConsumer = Consumer

#: How a command may choose nodes by a pattern on their names.
MATCHERS: Final[Mapping[str, Callable[[str, str], object]]] = {
    "glob": fnmatchcase,
    "pcre": lambda name, pattern: re.match(pattern, name),
}

_IN_USE: Final = (
    "Another node of the mailbox {namespace!r} is called {name!r}: is one still running that "
    "should not, or do two share a name?"
)


class Node:
    """Handles the commands that come to a mailbox for it.

        node = mailbox.Node("host1", state=worker, channel=connection.channel())

        @node.handler
        def ping(state):
            return "pong"

        node.listen()  # and drain the connection's events

    A handler is called with the state and the command's arguments, in the thread that drains. What
    it returns is the reply, if one is wanted; what it raises is too, as `{"error": ...}`.

    Args:
        hostname: Its name.
        state: First argument of the handlers.
        channel: Where it listens and replies.
        handlers: By the names of the commands.
        mailbox: Which one it belongs to.
    """

    def __init__(
        self,
        hostname: str,
        state: Any = None,
        channel: Channel | None = None,
        handlers: Mapping[str, Callable[..., Any]] | None = None,
        mailbox: Mailbox | None = None,
    ) -> None:
        if mailbox is None:
            raise ConfigurationError(f"The node {hostname!r} has no mailbox")
        self.hostname = hostname
        self.state = state
        self.channel = channel
        self.mailbox = mailbox
        self.handlers: dict[str, Callable[..., Any]] = dict(handlers or {})
        self.adjust_clock = mailbox.clock.adjust

    def Consumer(  # noqa: N802 (kombu's name)
        self,
        channel: Channel | None = None,
        no_ack: bool = True,
        accept: Collection[str] | None = None,
        **options: Any,
    ) -> Consumer:
        """Make a consumer of the node's queue; options as `Consumer`.

        Raises:
            ResourceLockedError: There is another node of that name.
        """
        queue = self.mailbox.get_queue(self.hostname)
        in_use = _IN_USE.format(namespace=self.mailbox.namespace, name=self.hostname)

        def check(name: str, messages: int, consumers: int) -> None:
            if consumers:
                warnings.warn(in_use, stacklevel=2)

        queue.on_declared = check
        used = channel if channel is not None else self.channel
        if used is None:
            raise ConfigurationError(f"The node {self.hostname!r} has no channel")
        try:
            return Consumer(
                used,
                [queue],
                no_ack=no_ack,
                accept=self.mailbox.accept if accept is None else accept,
                **options,
            )
        except ResourceLockedError as error:
            raise ResourceLockedError(in_use) from error

    def handler(self, fun: Callable[..., Any]) -> Callable[..., Any]:
        """Let a function handle the command of its name; a decorator."""
        self.handlers[fun.__name__] = fun
        return fun

    def listen(
        self,
        channel: Channel | None = None,
        callback: Callable[[Any, Message], object] | None = None,
    ) -> MadeConsumer:
        """Begin to consume commands, and return the consumer.

        Args:
            channel: None for the node's.
            callback: Instead of `handle_message`.
        """
        consumer = self.Consumer(
            channel,
            callbacks=[callback or self.handle_message],
            on_decode_error=self.on_decode_error,
        )
        consumer.consume()
        return consumer

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Called with what is no command; logs."""
        logger.error("Not a command: %r: %r", message, exc)

    # -- handling --------------------------------------------------------------------------

    def handle_message(self, body: Any, message: Message | None = None) -> Any:
        """Execute a command if it is for this node; returns the reply."""
        if message is not None:
            clock = message.headers.get("clock")
            self.adjust_clock(clock if isinstance(clock, int) else 0)
        if not _is_command(body):
            logger.error("Not a command: %r", message)
            return None
        if not self._is_meant(body):
            return None
        return self.dispatch(
            body["method"], body.get("arguments"), body.get("reply_to"), body.get("ticket")
        )

    #: kombu's first name for it.
    dispatch_from_message = handle_message

    def _is_meant(self, body: Mapping[str, Any]) -> bool:
        destination = body.get("destination")
        if destination:
            return self.hostname in destination
        pattern = body.get("pattern")
        if not pattern:
            return True
        matches = MATCHERS.get(body.get("matcher") or "glob")
        try:
            return matches is not None and bool(matches(self.hostname, pattern))
        except re.error as error:
            logger.error("A command chooses nodes by %r: %s", pattern, error)
            return False

    def dispatch(
        self,
        method: str,
        arguments: Mapping[str, Any] | None = None,
        reply_to: Mapping[str, str] | None = None,
        ticket: str | None = None,
    ) -> Any:
        """Execute a command, and send its reply if one is wanted; returns it too."""
        handle = self.handle_call if reply_to else self.handle_cast
        try:
            reply = handle(method, arguments or {})
        except Exception as error:
            logger.exception("The command %r failed", method)
            reply = {"error": repr(error)}
        if reply_to:
            to = reply_to["exchange"], reply_to["routing_key"], ticket
            try:
                self.reply({self.hostname: reply}, *to)
            except EncodeError as error:
                logger.exception("The reply of the command %r cannot be sent", method)
                self.reply({self.hostname: {"error": repr(error)}}, *to)
        return reply

    def handle(self, method: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Call the handler of a command. Raises KeyError if there is none."""
        return self.handlers[method](self.state, **(arguments or {}))

    def handle_call(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """Call the handler of a command that wants a reply."""
        return self.handle(method, arguments)

    def handle_cast(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """Call the handler of a command that wants none."""
        return self.handle(method, arguments)

    def reply(self, data: Any, exchange: str, routing_key: str, ticket: str | None) -> None:
        """Send a reply, to the exchange of the mailbox; one to another exchange is not sent."""
        if exchange != self.mailbox.reply_exchange.name:
            # Declaring it could fail, and then this node would hear no more.
            logger.error("A command wants its reply in a strange exchange: %r", exchange)
            return
        self.mailbox.publish_reply(
            data,
            exchange,
            routing_key,
            ticket,
            channel=self.channel,
            serializer=self.mailbox.serializer,
        )

    def __repr__(self) -> str:
        return f"<Node: {self.hostname} of {self.mailbox.namespace}>"


def _is_command(body: Any) -> bool:
    """Whether all parts of it are of the types that they should be; anybody may have sent it."""
    match body:
        case {"method": str()}:
            reply_to = body.get("reply_to")
            return (
                isinstance(body.get("arguments"), dict | None)
                and isinstance(body.get("destination"), list | None)
                and isinstance(body.get("pattern"), str | None)
                and isinstance(body.get("matcher"), str | None)
                and isinstance(body.get("ticket"), str | None)
                and (not reply_to or _is_address(reply_to))
            )
    return False


def _is_address(reply_to: Any) -> bool:
    match reply_to:
        case {"exchange": str(), "routing_key": str()}:
            return True
    return False
