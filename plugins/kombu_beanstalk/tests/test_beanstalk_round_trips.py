"""What each operation costs: the table in the README, counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from kombu_beanstalk.documents import FRESH
from kombu_beanstalk.store import BeanstalkStore
from kombu_beanstalk.wire import Wire
from kombu_core import Connection, Queue
from kombu_core.message import Message
from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.harness import drain_until
from kombu_core.virtual.store import Drop, Put, Want
from plugins.kombu_beanstalk.tests.steps import claim, envelope, put, settle

OpenStore = Callable[..., BeanstalkStore]


class Counter:
    """Counts what is sent: each send waits for its replies, so it is a round trip."""

    def __init__(self) -> None:
        self.sent: list[list[bytes]] = []

    def take(self) -> int:
        count = len(self.sent)
        self.sent.clear()
        return count

    def packets(self, word: str = "") -> int:
        """How many packets have a command that begins with `word`."""
        start = word.encode()
        return sum(any(command.startswith(start) for command in part) for part in self.sent)

    @property
    def words(self) -> list[str]:
        """The first words of all commands."""
        return [command.split()[0].decode() for part in self.sent for command in part]


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    counter = Counter()
    send = Wire.send

    def counting(self: Wire, commands: Sequence[bytes]) -> None:
        counter.sent.append(list(commands))
        send(self, commands)

    monkeypatch.setattr(Wire, "send", counting)
    # What was seen a moment ago is seen again, so that the count does not depend on the clock.
    monkeypatch.setattr("kombu_beanstalk.store.FRESH", 60.0)
    monkeypatch.setattr("kombu_beanstalk.claims._PROMOTE", 60.0)
    return counter


def test_publishing(store: BeanstalkStore, counter: Counter) -> None:
    version = store.write({"a": b"1"}, ()).versions["a"]
    put(store, "first")
    counter.take()
    put(store, "one", expect=[("a", version)])
    assert counter.words == ["put", "peek"]
    assert counter.take() == 1
    put(store, *map(str, range(100)), expect=[("a", version)])
    assert counter.take() == 1


def test_publishing_when_nothing_was_seen_for_a_while(
    store: BeanstalkStore, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kombu_beanstalk.store.FRESH", 0.0)
    store.write({"a": b"1"}, ())
    put(store, "first")
    counter.take()
    put(store, "second")
    assert counter.words == ["use", "peek-ready", "use", "put", "peek"]
    assert counter.take() == 2
    assert FRESH < 0.05


def test_claiming_and_settling(me: BeanstalkStore, counter: Counter) -> None:
    put(me, *map(str, range(300)))
    held = claim(me, 1)
    counter.take()
    held += claim(me, 1)
    assert counter.words == ["reserve-with-timeout", "stats-job"]
    assert counter.take() == 2
    settle(me, acks=[item.claim for item in held])
    assert counter.take() == 1
    for _ in range(3):
        claim(me, 50)
    counter.take()
    many = claim(me, 100)
    assert len(many) == 100
    assert counter.take() == 2
    settle(me, acks=[item.claim for item in many])
    assert counter.take() == 1


def test_one_message_after_the_other_by_waiting(me: BeanstalkStore, counter: Counter) -> None:
    for _ in range(2):
        put(me, "a")
        counter.take()
        assert me.wait(["q"], 5)
        held = me.claim([Want("q", 1)], "me", 1)
        settle(me, acks=[item.claim for item in held])
    words = [word for word in counter.words if word not in ("watch", "ignore", "use")]
    assert words == ["reserve-with-timeout", "stats-job", "stats-job", "delete"]


def test_publishing_and_acknowledging_together(me: BeanstalkStore, counter: Counter) -> None:
    me.write({"a": b"1"}, ())
    put(me, "a")
    held = claim(me)
    counter.take()
    puts = [Put("dead", envelope("x"))] * 20
    assert not settle(me, puts=puts, acks=[item.claim for item in held]).lost
    words = [word for word in counter.words if word != "use"]
    assert words == ["touch", *["put"] * 20, "peek", "delete"]
    assert counter.take() == 3


def test_counting_and_purging(me: BeanstalkStore, counter: Counter) -> None:
    put(me, *map(str, range(100)))
    counter.take()
    assert me.count("q").ready == 100
    assert counter.take() == 1
    assert me.purge("q") == 100
    assert counter.take() == 3


def test_all_that_an_application_sends(
    beanstalkd_server: BrokerServer, token: str, counter: Counter
) -> None:
    """One packet for each publish; and for many messages that are consumed, a few."""
    seen: list[Message] = []

    def handle(message: Message) -> None:
        seen.append(message)
        message.ack()

    with Connection(beanstalkd_server.url, transport_options={"prefix": token}) as connection:
        queue = Queue("q")(connection)
        queue.declare()
        producer = connection.Producer()
        producer.publish("first", "q")
        counter.take()
        for _ in range(50):
            producer.publish("x", "q")
        assert counter.packets("put") == counter.packets("peek") == 50
        assert counter.packets() <= 52  # The keeper may have come by.
        counter.take()
        with connection.Consumer([queue], on_message=handle, prefetch_count=100):
            drain_until(connection, lambda: len(seen) == 51)
        assert counter.packets("reserve-with-timeout") <= 10
        assert counter.packets("delete") <= 10


def test_many_queues_are_one_question(me: BeanstalkStore, counter: Counter) -> None:
    wants = [Want(f"q{number}", 5) for number in range(20)]
    me.claim(wants, "me", 100)
    counter.take()
    me.claim(wants, "me", 100)
    assert counter.take() == 1
    me.wait([want.queue for want in wants], 0)
    counter.take()
    me.wait([want.queue for want in wants], 0)
    assert counter.words == ["reserve-with-timeout"]


def test_keeping_a_lease(me: BeanstalkStore, counter: Counter) -> None:
    put(me, *map(str, range(50)))
    claim(me, 50)
    counter.take()
    assert me.renew("me", 60)
    assert counter.take() == 3


def test_the_first_claim_of_a_session(me: BeanstalkStore, counter: Counter) -> None:
    claim(me)
    first = counter.take()
    me.begin("other", 60)
    counter.take()
    claim(me)
    again = counter.take()
    claim(me, session="other")
    assert counter.take() == again + 2 <= first


def test_documents(store: BeanstalkStore, counter: Counter) -> None:
    store.write({"a": b"1"}, [])
    counter.take()
    store.read(["a"])
    store.scan("a")
    assert counter.take() == 2
    store.write({"a": b"2", "b": b"1"}, [])
    assert counter.take() <= 7
    store.write({"b": None}, [], [Drop("q")])
    assert counter.take() <= 15
