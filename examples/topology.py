"""A topology: planned, compared with the broker, applied, and explained.

python examples/topology.py [URL]
"""

from __future__ import annotations

import sys

from kombu_core import Connection, Exchange, Queue
from kombu_core.topology_plan import Topology

UNROUTED = Exchange("topology_example.unrouted", "fanout")
EVENTS = Exchange(
    "topology_example.events", "topic", arguments={"alternate-exchange": UNROUTED.name}
)
TOPOLOGY = Topology(
    Queue("topology_example.orders", EVENTS, "order.*"),
    Queue("topology_example.audit", EVENTS, "*.deleted"),
    Queue("topology_example.lost", UNROUTED),
)


def main(url: str) -> None:
    """Make the broker what it shall be, and say where messages go."""
    with Connection(url) as connection:
        for finding in TOPOLOGY.diff(connection):
            print(finding)
        print("applied:", len(TOPOLOGY.apply(connection)), "steps")
        for key in ("order.deleted", "order.created", "user.created"):
            print(f"{key} reaches")
            print(TOPOLOGY.route(EVENTS.name, key))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
