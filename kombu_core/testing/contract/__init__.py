"""The contract kit: what every transport promises, as tests to inherit.

A plugin's author writes one file: a class that inherits `TransportContract` and overrides one
fixture, `broker`, which yields a `BrokerUnderTest`::

    class TestMyTransport(TransportContract):
        @pytest.fixture
        def broker(self) -> BrokerUnderTest:
            return BrokerUnderTest(url="mine://localhost", transport_options={"lease": 1}, lease=1)
"""

from __future__ import annotations

from kombu_core.testing.contract.application import ApplicationContract
from kombu_core.testing.contract.bindings import BindingContract
from kombu_core.testing.contract.bodies import BodyContract
from kombu_core.testing.contract.concurrency import ConcurrencyContract
from kombu_core.testing.contract.connection import ConnectionContract
from kombu_core.testing.contract.consumers import ConsumerContract
from kombu_core.testing.contract.dead_letters import DeadLetterContract
from kombu_core.testing.contract.delay import DelayContract
from kombu_core.testing.contract.delivery import DeliveryContract
from kombu_core.testing.contract.errors import ErrorContract
from kombu_core.testing.contract.exchanges import (
    AlternateExchangeContract,
    ExchangeBindingContract,
    InternalExchangeContract,
)
from kombu_core.testing.contract.exclusivity import AutoDeleteContract, ExclusiveQueueContract
from kombu_core.testing.contract.expiry import ExpiryContract
from kombu_core.testing.contract.forks import ForkContract
from kombu_core.testing.contract.headers import HeadersContract
from kombu_core.testing.contract.limits import LimitContract
from kombu_core.testing.contract.patterns import PatternContract
from kombu_core.testing.contract.prefetch import PrefetchContract
from kombu_core.testing.contract.priority import PriorityContract
from kombu_core.testing.contract.publishing import PublishingContract, TransactionContract
from kombu_core.testing.contract.queues import QueueContract
from kombu_core.testing.contract.recovery import RecoveryContract
from kombu_core.testing.contract.refusals import RefusalContract
from kombu_core.testing.contract.routing import RoutingContract
from kombu_core.testing.contract.settlement import SettlementContract
from kombu_core.testing.contract.threads import ThreadContract
from kombu_core.testing.contract.topology import ExchangeContract
from kombu_core.testing.harness import BrokerUnderTest

__all__ = ["BrokerUnderTest", "ChannelContract", "TransportContract"]


class ChannelContract(
    ConnectionContract,
    ExchangeContract,
    QueueContract,
    BindingContract,
    RoutingContract,
    HeadersContract,
    ExchangeBindingContract,
    InternalExchangeContract,
    AlternateExchangeContract,
    DeliveryContract,
    SettlementContract,
    PrefetchContract,
    ConcurrencyContract,
    ConsumerContract,
    PublishingContract,
    TransactionContract,
    RecoveryContract,
    ExclusiveQueueContract,
    AutoDeleteContract,
    ExpiryContract,
    PriorityContract,
    DeadLetterContract,
    LimitContract,
    DelayContract,
    ErrorContract,
    BodyContract,
    RefusalContract,
):
    """Every topic that speaks `Channel`; the client of any AMQP broker can be put behind it."""


class TransportContract(
    ChannelContract, ThreadContract, ForkContract, ApplicationContract, PatternContract
):
    """Everything: what a transport behind `kombu_core.Connection` has to pass."""
