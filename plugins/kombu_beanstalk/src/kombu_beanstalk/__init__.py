"""The plugin of kombu_core for beanstalkd.

The core imports it when somebody asks for its scheme, so it may import the driver at once.
"""

from __future__ import annotations

from typing import Final

from kombu_beanstalk.transport import BeanstalkTransport
from kombu_core.hookspecs import hookimpl
from kombu_core.transport import TransportClass

#: The major version of kombu_core's contracts that this was written for.
KOMBU_CONTRACT: Final = 1


@hookimpl
def kombu_transport(scheme: str) -> TransportClass | None:
    """Return the beanstalkd transport for its scheme."""
    return BeanstalkTransport if scheme == "beanstalk" else None
