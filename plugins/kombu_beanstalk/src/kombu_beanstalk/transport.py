"""The transport: from a URL and options to a store. All else is the virtual transport's."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace
from typing import ClassVar, Final

from kombu_beanstalk.layout import Layout
from kombu_beanstalk.options import BeanstalkOptions
from kombu_beanstalk.store import CAPABILITIES, BeanstalkStore
from kombu_beanstalk.wires import Wires
from kombu_core.exceptions import ConfigurationError
from kombu_core.options import parse_options
from kombu_core.transport import TransportParameters
from kombu_core.virtual.transport import VirtualTransport

DEFAULT_PORT: Final = 11300
#: The virtual host of a URL without a path.
_DEFAULT_HOST: Final = "default"


class BeanstalkTransport(VirtualTransport):
    """AMQP on beanstalkd 1.12.

    Raises:
        ConfigurationError: From the constructor: an unknown option, credentials, or TLS.
    """

    driver_type: ClassVar[str] = "beanstalk"
    driver_name: ClassVar[str] = "greenstalk"

    def __init__(self, parameters: TransportParameters) -> None:
        url = parameters.url
        self._options = parse_options(
            BeanstalkOptions,
            {**url.query, **parameters.options},
            source=f"the options of the {url.scheme} transport",
        )
        password = url.password.reveal() if url.password else None
        # AMQP's default, guest for both, asks for nothing.
        if (url.userid, password) not in ((None, None), ("guest", "guest")):
            raise ConfigurationError("beanstalkd knows no users and no passwords")
        if parameters.ssl:
            raise ConfigurationError("beanstalkd knows no TLS")
        self._layout = Layout.of(
            self._options.prefix, (url.virtual_host or "").strip("/") or _DEFAULT_HOST
        )
        super().__init__(parameters, lease=self._options.lease)

    def open_store(self) -> BeanstalkStore:
        options = self._options
        wires = Wires(self._connect)
        server = wires.open()
        size = options.max_job_size
        if size == "server":
            size = int(server.get("max-job-size", CAPABILITIES.max_message_bytes or 0))
        capabilities = replace(
            CAPABILITIES,
            persistent=server.get("binlog-current-index", "0") != "0",
            max_message_bytes=size,
        )
        return BeanstalkStore(
            wires, self._layout, capabilities, max_job_size=size, lease=options.lease
        )

    def _connect(self) -> socket.socket:
        url, options = self.parameters.url, self._options
        sock = socket.create_connection(
            (url.hostname or "localhost", url.port or DEFAULT_PORT),
            options.socket_connect_timeout or self.parameters.connect_timeout,
        )
        # The kernel's own timeouts: Python's would cost a poll before each call.
        sock.settimeout(None)
        seconds = int(options.socket_timeout)
        micros = int(options.socket_timeout % 1 * 1_000_000)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, micros))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return sock
