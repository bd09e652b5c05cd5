"""AMQP messaging in Python, the same on every broker."""

from kombu_core.connection import BrokerConnection, Connection
from kombu_core.consumer import Consumer
from kombu_core.entity import Exchange, Queue, binding
from kombu_core.exceptions import KombuError
from kombu_core.message import Message
from kombu_core.producer import Producer

__all__ = [
    "BrokerConnection",
    "Connection",
    "Consumer",
    "Exchange",
    "KombuError",
    "Message",
    "Producer",
    "Queue",
    "binding",
]
