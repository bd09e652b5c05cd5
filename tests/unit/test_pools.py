"""The pools that a program shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kombu_core import Connection, pools
from kombu_core.exceptions import ConfigurationError, ConnectionLimitExceededError
from kombu_core.pools import ProducerPool, connections, get_limit, producers, set_limit


@pytest.fixture
def connection(token: str) -> Iterator[Connection]:
    before = get_limit()
    with Connection(f"memory://{token}") as connection:
        yield connection
    pools.reset()
    set_limit(before)


def test_equal_connections_share_a_pool(connection: Connection) -> None:
    same, other = connection.clone(), connection.clone(transport_options={"lease": 3})
    assert connections[connection] is connections[same]
    assert connections[connection] is not connections[other]
    assert producers[connection].connections is connections[connection]
    assert connection in connections
    assert len(connections) == len(connections.values()) == 2


def test_a_producer_publishes_on_a_pooled_connection(connection: Connection) -> None:
    simple = connection.SimpleQueue("simple")
    used = set()
    for number in range(3):
        with producers[connection].acquire(block=True) as producer:
            producer.publish(number, routing_key="simple")
            used.add(producer)
    assert [message.payload for message in simple] == [0, 1, 2]
    assert len(used) == 1, "one producer for each connection"
    simple.close()


def test_producers_are_as_many_as_there_are_connections(connection: Connection) -> None:
    with connection.Pool(1) as pool, ProducerPool(pool, 5) as limited:
        producer = limited.acquire()
        for block, timeout in ((False, None), (True, 0.02)):
            with pytest.raises(ConnectionLimitExceededError):
                limited.acquire(block=block, timeout=timeout)
        producer.release()
        assert limited.acquire() is not None


def test_a_producer_of_a_lost_connection_is_not_handed_out(connection: Connection) -> None:
    pool = producers[connection]
    with pool.acquire() as producer:
        producer.channel.transport.close()
    with pool.acquire() as other:
        assert other is not producer
        other.publish("fine", routing_key="nowhere")


def test_the_limit_is_for_all_pools(connection: Connection) -> None:
    first = connections[connection]
    assert first.limit == get_limit() == 10
    assert set_limit(3, reset_after=True) == get_limit() == 3
    assert first.limit == producers[connection].limit == 3
    assert set_limit(None) == 0
    with pytest.raises(ConfigurationError):
        set_limit(True)


def test_reset_closes_and_forgets(connection: Connection) -> None:
    taken = connections[connection].acquire()
    taken.connect()
    producers[connection].acquire().publish("x", routing_key="nowhere")
    pools.reset()
    assert not taken.connected
    assert len(connections) == len(producers) == 0
