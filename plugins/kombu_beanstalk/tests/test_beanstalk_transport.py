"""From a URL and options to a connection, and what the server's limit means."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kombu_beanstalk.transport import BeanstalkTransport
from kombu_core import Connection
from kombu_core.exceptions import ConfigurationError, ConnectError, ContentTooLargeError
from kombu_core.message import Envelope
from kombu_core.testing.brokers import BeanstalkdServer
from kombu_core.transport import Publication, TransportParameters
from kombu_core.url import parse


def transport(url: str, **options: object) -> BeanstalkTransport:
    return BeanstalkTransport(TransportParameters(parse(url), options))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("beanstalk://h/?prefix=-x", "prefix"),
        ("beanstalk://h/?prefix=a%2Fb", "prefix"),
        ("beanstalk://h/?lease=0", "lease"),
        ("beanstalk://h/?socket_timeout=0", "socket_timeout"),
        ("beanstalk://h/?socket_connect_timeout=-1", "socket_connect_timeout"),
        ("beanstalk://h/?max_job_size=9", "max_job_size"),
        ("beanstalk://h/?max_job_size=much", "max_job_size"),
        ("beanstalk://h/?nope=1", "unknown option nope"),
        ("beanstalk://user:secret@h/", "no users"),
    ],
)
def test_what_makes_no_sense_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        transport(url)
    assert "secret" not in str(caught.value)


def test_there_is_no_tls() -> None:
    with pytest.raises(ConfigurationError, match="TLS"):
        BeanstalkTransport(TransportParameters(parse("beanstalk://h/"), {}, ssl=True))


def test_nobody_listens() -> None:
    with pytest.raises(ConnectError):
        transport("beanstalk://127.0.0.1:1/").open_store()


@pytest.mark.broker("beanstalkd")
class TestServer:
    @pytest.fixture
    def server(self) -> Iterator[BeanstalkdServer]:
        with BeanstalkdServer(binlog=False, max_job_size=5000) as server:
            yield server

    def test_its_limit_and_binlog_are_asked_for(self, server: BeanstalkdServer) -> None:
        store = transport(server.url).open_store()
        assert store.capabilities.max_message_bytes == 5000
        assert not store.capabilities.persistent
        assert not store.capabilities.atomic_commit
        store.close()
        with BeanstalkdServer() as durable:
            store = transport(durable.url + "/host?max_job_size=3000").open_store()
            assert store.capabilities.max_message_bytes == 3000
            assert store.capabilities.persistent
            store.close()
        store = transport(server.url + "/host?max_job_size=server").open_store()
        assert store.capabilities.max_message_bytes == 5000
        store.close()

    @pytest.mark.parametrize("size", [5001, 4990])
    def test_a_large_message_is_refused_before_it_is_sent(
        self, server: BeanstalkdServer, size: int
    ) -> None:
        """With 4990 bytes of body it is the headers that are too much."""
        with Connection(server.url) as connection:
            channel = connection.channel()
            channel.queue_declare("q")
            with pytest.raises(ContentTooLargeError, match=r"5000 .*-z"):
                channel.basic_publish(Envelope(bytes(size), {}, {"h": "x" * 20}, "", "q"))
            channel = connection.channel()
            channel.basic_publish_batch([Publication(Envelope(bytes(4000), {}, {}, "", "q"))])
            assert channel.queue_declare("q", passive=True).message_count == 1

    def test_a_limit_that_was_told_wrong(self, server: BeanstalkdServer) -> None:
        with Connection(server.url, transport_options={"max_job_size": 9000}) as connection:
            channel = connection.channel()
            channel.queue_declare("q")
            with pytest.raises(ContentTooLargeError, match="-z"):
                channel.basic_publish(Envelope(bytes(8000), {}, {}, "", "q"))
            assert connection.channel().queue_declare("q", passive=True).message_count == 0

    def test_virtual_hosts_and_prefixes_share_nothing(self, server: BeanstalkdServer) -> None:
        urls = [server.url + end for end in ("", "/a", "/b", "/a%2Fb", "/a?prefix=p")]
        connections = [Connection(url) for url in urls]
        for number, connection in enumerate(connections):
            channel = connection.channel()
            channel.queue_declare("q")
            channel.basic_publish(Envelope(b"%d" % number, {}, {}, "", "q"))
        for number, connection in enumerate(connections):
            message = connection.channel().basic_get("q")
            assert message is not None
            assert message.body == b"%d" % number
            connection.close()
        same = transport(server.url + "/default").open_store()
        assert same.scan("queue/") == ["queue/q"]
        same.close()
