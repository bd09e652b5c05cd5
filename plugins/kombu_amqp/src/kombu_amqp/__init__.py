"""The plugin of kombu_core for RabbitMQ, through py-amqp or pika.

The core imports it when somebody asks for one of its schemes. pika is an extra, and imported only
for the schemes that are named after it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final, cast

from kombu_amqp.with_pyamqp import PyAmqpTransport
from kombu_core.exceptions import PluginLoadError
from kombu_core.hookspecs import hookimpl
from kombu_core.transport import TransportClass

#: The major version of kombu_core's contracts that this was written for.
KOMBU_CONTRACT: Final = 1

_PYAMQP: Final = frozenset({"amqp", "amqps", "pyamqp"})
_PIKA: Final = frozenset({"pika", "pikas"})


@hookimpl
def kombu_transport(scheme: str) -> TransportClass | None:
    """Return the transport for one of the schemes of this plugin.

    Raises:
        PluginLoadError: The scheme needs pika, which is not installed.
    """
    if scheme in _PYAMQP:
        return PyAmqpTransport
    if scheme in _PIKA:
        try:
            module = import_module("kombu_amqp.with_pika")
        except ModuleNotFoundError as error:
            if error.name != "pika":
                raise
            reason = "pika is not installed; install it with: pip install kombu-amqp[pika]"
            raise PluginLoadError(scheme, "kombu-amqp", reason) from error
        return cast("TransportClass", module.PikaTransport)
    return None
