"""AMQP 0-9-1 over any store: routing, topology, delivery and settlement, written once."""
