"""A password is shown nowhere: in no repr, text, log record, error or `info()`, whatever the URL.

Everything is walked that a program, a log or a report of an error could print: all that
a connection holds, each error with all that it was raised from, each record that anybody logs.
"""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final
from urllib.parse import quote

import pytest

from kombu_core import Connection, pools
from kombu_core.exceptions import AuthenticationError, ConnectError, KombuError
from kombu_core.mixins import ConsumerMixin
from kombu_core.plugins import default_plugins
from kombu_core.rpc import RPCClient
from kombu_core.testing.brokers import BrokerServer, RedisServer, free_port
from kombu_core.url import is_secret_name

#: No part of it is a word, so where a piece of it stands, it is the password.
PASSWORD: Final = "qzjXk/vq@wz:jq#xk?qj%zv"
PIECES: Final = ("qzjXk", "vq@wz", "jq#xk", "qj%zv", "vq%40wz", "jq%23xk", "qj%25zv", "qzjxk")
QUOTED: Final = quote(PASSWORD, safe="")
HOST: Final = "127.0.0.1"

AMQP: Final = (
    "{scheme}://user:{password}@{host}:{port}/v",
    "{scheme}://user:{password}@{host}:{port}//?connection_name=x",
    "{scheme}://{host}:{port}/?ssl_keyfile_password={password}&ssl_certfile=/nowhere",
    "{scheme}://user:{password}@[::1]:{port}",
)
REDIS: Final = (
    "{scheme}://user:{password}@{host}:{port}/0",
    "{scheme}://:{password}@{host}:{port}?client_name=x",
    "{scheme}://{host}:{port}/0?ssl_keyfile_password={password}&ssl_certfile=/nowhere",
)
SQL: Final = (
    "{scheme}+postgresql://user:{password}@{host}:{port}/db",
    "{scheme}+postgresql://{host}:{port}/db?user=u&password={password}",
    "{scheme}+mysql://user:{password}@{host}:{port}/db?kombu_prefix=p_",
    "{scheme}+mysql+pymysql://user:{password}@{host}:{port}/db",
)
#: What any URL can look like, also of transports that have no users.
ANY: Final = ("{scheme}://user:{password}@{host}:{port}/proc/nowhere",)
#: What a URL of a scheme can look like besides.
FORMS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("amqp", "amqps", "pyamqp", "pika", "pikas"), AMQP),
    **dict.fromkeys(("redis", "rediss"), REDIS),
    "redis+socket": ("{scheme}://user:{password}@/nowhere/redis.sock?virtual_host=0",),
    **dict.fromkeys(("sqlalchemy", "sqla"), SQL),
}


def urls() -> Iterator[str]:
    """Yield each form of each installed scheme, on a port where nobody listens."""
    for scheme in default_plugins.schemes():
        for form in (*ANY, *FORMS.get(scheme, ())):
            yield form.format(scheme=scheme, password=QUOTED, host=HOST, port=PORT)


#: Bound and not listened at, so that no server of a later moment gets it.
HELD: Final = socket.socket()
HELD.bind((HOST, free_port()))
PORT: Final[int] = HELD.getsockname()[1]
URLS: Final = tuple(urls())


class Shown:
    """Collects what is shown, and finds the password in it."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []
        self._seen: dict[int, Any] = {}

    def text(self, where: str, text: str) -> None:
        self.texts.append((where, text))

    def error(self, error: BaseException | None) -> None:
        """Take in an error, and all that it came from."""
        while error is not None and id(error) not in self._seen:
            self._seen[id(error)] = error
            lines = traceback.format_exception(error)
            # Lines of source are indented by four; they show no values.
            self.text("traceback", "".join(line for line in lines if not line.startswith("    ")))
            for each in (error.args, vars(error), getattr(error, "__notes__", ())):
                self.text(f"{type(error).__name__}'s content", repr(each))
            self.error(error.__cause__)
            error = error.__context__

    def record(self, record: logging.LogRecord) -> None:
        self.text(f"log of {record.name}", f"{record.getMessage()} {record.args!r}")
        if record.exc_info:
            self.error(record.exc_info[1])

    def walk(self, root: object) -> None:
        """Take in all of ours that can be reached, and what they hold of others'."""
        stack = [root]
        while stack:
            found = stack.pop()
            if id(found) in self._seen or isinstance(found, (type, str, bytes, int, ModuleType)):
                continue
            self._seen[id(found)] = found
            kind = type(found)
            where = f"{kind.__module__}.{kind.__qualname__}"
            self.text(where, f"{found!r} {found} {found:}" if kind is not dict else repr(found))
            if isinstance(found, BaseException):
                self.error(found)
            elif isinstance(found, Mapping):
                stack += [*found.keys(), *found.values()]
            elif isinstance(found, (list, tuple, set, frozenset)):
                stack += list(found)
            elif isinstance(found, MethodType):
                stack.append(found.__self__)
            elif isinstance(found, FunctionType):
                stack += [cell.cell_contents for cell in found.__closure__ or ()]
            if kind.__module__.startswith("kombu_") and kind.__qualname__ != "Secret":
                stack += list(_attributes(found))

    def check(self) -> None:
        """Fail if the password is in it."""
        assert self.texts
        leaks = [
            (where, text) for where, text in self.texts if any(piece in text for piece in PIECES)
        ]
        assert not leaks, "\n".join(f"{where}: {text}" for where, text in leaks)


def _attributes(found: object) -> Iterator[object]:
    yield from getattr(found, "__dict__", {}).values()
    for kind in type(found).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            value = getattr(found, slot, None)
            if value is not None:
                yield value


@pytest.fixture
def shown() -> Iterator[Shown]:
    """Everything that is logged meanwhile is in it, of all loggers, whatever their level."""
    shown = Shown()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            shown.record(record)

    handler, root = Handler(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield shown
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def expect_failure(shown: Shown, call: Callable[[], object]) -> None:
    """Take in the error of what may fail, and only by one of ours."""
    try:
        call()
    except KombuError as error:
        shown.error(error)


def describe(shown: Shown, connection: Connection) -> None:
    """Take in what a connection says of itself, and all that it holds."""
    for text in (repr(connection), str(connection), f"{connection}", connection.as_uri()):
        shown.text("Connection", text)
    shown.text("info()", repr(connection.info()))
    shown.text("identity", repr(connection.identity))
    shown.walk(connection)


def test_the_installed_schemes_have_their_forms() -> None:
    assert set(default_plugins.schemes()) >= FORMS.keys()
    assert len(URLS) >= 40


def test_the_walk_finds_what_is_shown() -> None:
    class Leak(Exception):
        __module__ = "kombu_leak"

        def __init__(self) -> None:
            self.hidden = {"deep": [(PASSWORD,)]}

    for take in ("walk", "error"):
        shown = Shown()
        getattr(shown, take)(Leak())
        with pytest.raises(AssertionError, match="qzjXk"):
            shown.check()


@pytest.mark.parametrize("url", URLS, ids=lambda url: url.replace(str(PORT), "PORT"))
def test_nobody_is_there(shown: Shown, url: str) -> None:
    try:
        connection = Connection(url, connect_timeout=1)
    except KombuError as error:
        shown.error(error)
        shown.check()
        return
    with connection:
        describe(shown, connection)
        if connection.url.scheme != "memory":
            expect_failure(shown, connection.connect)
            expect_failure(shown, lambda: connection.clone().channel())
            expect_failure(
                shown,
                lambda: connection.ensure_connection(
                    errback=lambda error, _: shown.error(error), max_retries=1, interval_start=0
                ),
            )
        describe(shown, connection)
    shown.check()


TAILS: Final = ("", ":x/", "/%FF", "/?a=1&a=2", "/?nonsense=1", "#f", "/a b?=&&", ":99999", "]")


@pytest.mark.parametrize("scheme", default_plugins.schemes())
@pytest.mark.parametrize("password", [QUOTED, PASSWORD], ids=["quoted", "unquoted"])
def test_urls_that_are_none(shown: Shown, scheme: str, password: str) -> None:
    # The dialect stands where SQLAlchemy's URLs have it, and makes nonsense of the others.
    for dialect, tail in product(("", "+postgresql"), TAILS):
        url = f"{scheme}{dialect}://user:{password}@{HOST}{tail}"
        try:
            connection = Connection(url)
        except KombuError as error:
            shown.error(error)
        else:
            describe(shown, connection)
    shown.check()


def test_alternates_and_arguments(shown: Shown) -> None:
    port = free_port()
    first, second = (f"{scheme}://user:{QUOTED}@{HOST}:{port}/0" for scheme in ("redis", "amqp"))
    for given, options in (
        (f"{first};{second}", {}),
        ([second, first], {}),
        (f"amqp://{HOST}:{port}", {"userid": "user", "password": PASSWORD}),
        (f"redis://{HOST}:{port}", {"transport_options": {"ssl_keyfile_password": PASSWORD}}),
    ):
        try:
            connection = Connection(given, connect_timeout=1, **options)
        except KombuError as error:
            shown.error(error)
            continue
        with connection:
            expect_failure(shown, connection.connect)
            describe(shown, connection)
            shown.text("pools", repr(pools.connections[connection]))
            shown.text("pools", repr(list(pools.connections)))
            shown.walk(connection.Pool(2))
            pools.reset()
    shown.check()


def test_what_patterns_say_of_their_connections(shown: Shown) -> None:
    class Worker(ConsumerMixin):
        def __init__(self, connection: Connection) -> None:
            self.connection = connection

        def get_consumers(self, Consumer: Any, channel: Any) -> list[Any]:  # noqa: N803
            return []

        def on_connection_error(self, exc: BaseException, interval: float) -> None:
            super().on_connection_error(exc, interval)
            self.should_stop = True

    for scheme in ("amqp", "redis"):
        url = f"{scheme}://user:{QUOTED}@{HOST}:{free_port()}/0"
        worker = Worker(Connection(url, connect_timeout=1))
        expect_failure(shown, worker.run)
        shown.walk(worker)
        with RPCClient(Connection(url, connect_timeout=1), "q") as client:
            expect_failure(shown, lambda client=client: client.call("p", timeout=0.2))  # type: ignore[misc]
            shown.walk(client)
    shown.check()


# -- brokers that refuse it, and brokers that take it ----------------------------------------


@pytest.mark.parametrize("scheme", ["amqp", "pika"])
def test_rabbitmq_refuses_it(shown: Shown, rabbitmq_server: BrokerServer, scheme: str) -> None:
    url = f"{scheme}://guest:{QUOTED}@{HOST}:{rabbitmq_server.port}"
    with Connection(url) as connection:
        with pytest.raises(AuthenticationError) as caught:
            connection.connect()
        shown.error(caught.value)
        describe(shown, connection)
    shown.check()


@pytest.mark.broker("redis")
def test_redis_refuses_it_and_takes_it(shown: Shown) -> None:
    with RedisServer(password=PASSWORD) as server:
        with Connection(f"redis://:{QUOTED}x@{HOST}:{server.port}/0") as connection:
            with pytest.raises(AuthenticationError) as caught:
                connection.connect()
            shown.error(caught.value)
            describe(shown, connection)
        with Connection(server.url) as connection:
            work(shown, connection)
            server.kill()
            expect_failure(shown, lambda: connection.Producer().publish("x", "q", timeout=1))
            describe(shown, connection)
    shown.check()


@pytest.mark.parametrize(
    ("fixture", "dialect"), [("postgres_server", "postgresql"), ("mariadb_server", "mysql")]
)
def test_a_database(
    shown: Shown, request: pytest.FixtureRequest, fixture: str, dialect: str
) -> None:
    server: BrokerServer = request.getfixturevalue(fixture)
    # The private servers trust everybody, and the password is sent or kept all the same.
    _, _, rest = server.url.partition("://")
    user, _, address = rest.rpartition("@")
    url = f"sqla+{dialect}://{user.partition(':')[0]}:{QUOTED}@{address}"
    options = {"create_tables": True, "prefix": "nopass_"}
    try:
        with Connection(url, transport_options=options) as connection:
            work(shown, connection)
    except ConnectError as error:
        shown.error(error)
    wrong = url.replace(f"//{user.partition(':')[0]}:", "//nobody:")
    with Connection(wrong, transport_options=options) as connection:
        expect_failure(shown, connection.connect)
        describe(shown, connection)
    shown.check()


def work(shown: Shown, connection: Connection) -> None:
    """Use a connection, and take in what all that it has by then shows."""
    channel = connection.channel()
    producer = connection.Producer()
    with connection.SimpleQueue("no_passwords") as queue:
        queue.put("x")
        message = queue.get(timeout=5)
        describe(shown, connection)
        for each in (channel, producer, queue, message, message.envelope):
            shown.walk(each)
        message.ack()
    expect_failure(shown, lambda: channel.queue_declare("nothing there", passive=True))
    expect_failure(shown, lambda: producer.publish("x", "q", exchange="nothing there"))


def test_names_of_options_that_are_secrets_are_known() -> None:
    assert all(map(is_secret_name, ("password", "ssl_keyfile_password", "token", "secret")))
