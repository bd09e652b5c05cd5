"""The contract kit on beanstalkd, without a binlog and with one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kombu_core.testing.brokers import BeanstalkdServer, BrokerServer
from kombu_core.testing.contract import BrokerUnderTest, TransportContract
from plugins.kombu_beanstalk.tests.conftest import LARGE


def under_test(server: BrokerServer, prefix: str) -> BrokerUnderTest:
    return BrokerUnderTest(
        url=server.url,
        transport_options={"lease": 1.5, "prefix": prefix},
        lease=1.5,
        time_step=1.0,
        dead_url="beanstalk://127.0.0.1:1/",
        restart=server.restart if server.is_private else None,
        kill=server.kill if server.is_private else None,
    )


@pytest.fixture(scope="module")
def durable() -> Iterator[BeanstalkdServer]:
    with BeanstalkdServer(fsync=False, max_job_size=LARGE) as server:
        yield server


class TestBeanstalk(TransportContract):
    """Each test has tubes of its own."""

    @pytest.fixture
    def broker(self, beanstalkd_server: BrokerServer, token: str) -> BrokerUnderTest:
        return under_test(beanstalkd_server, token)


@pytest.mark.broker("beanstalkd")
class TestBeanstalkWithBinlog(TransportContract):
    """The same on a server that keeps what it has: tests that restart it see that it does."""

    @pytest.fixture
    def broker(self, durable: BeanstalkdServer, token: str) -> BrokerUnderTest:
        return under_test(durable, token)
