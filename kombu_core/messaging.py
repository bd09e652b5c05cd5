"""The names that programs for kombu import from its `messaging`: what messages go through."""

from kombu_core.consumer import Consumer
from kombu_core.entity import Exchange, Queue
from kombu_core.producer import Producer

__all__ = ["Consumer", "Exchange", "Producer", "Queue"]
