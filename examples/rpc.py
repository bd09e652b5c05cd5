"""Remote procedure calls: a server with a few procedures, and a client with many calls at once.

python examples/rpc.py [URL]
"""

from __future__ import annotations

import sys
import threading

from kombu_core import Connection
from kombu_core.exceptions import OperationTimeoutError
from kombu_core.rpc import RPCClient, RPCError, RPCServer


def make_server(connection: Connection) -> RPCServer:
    """Return a server; in real life it is a program of its own that calls `server.run()`."""
    server = RPCServer(connection, "rpc_example")

    @server.procedure
    def fibonacci(n: int) -> int:
        if n < 0:
            raise ValueError("n is negative")
        before, current = 0, 1
        for _ in range(n):
            before, current = current, before + current
        return before

    return server


def main(url: str) -> None:
    """Call, call at once, fail, and wait in vain."""
    with Connection(url) as connection:
        connection.connect()
        server = make_server(connection)
        thread = threading.Thread(target=server.run, kwargs={"safety_interval": 0.1})
        thread.start()
        try:
            with RPCClient(connection, "rpc_example", timeout=10) as client:
                print("fibonacci(30) =", client.call("fibonacci", 30))
                futures = [client.submit("fibonacci", [n]) for n in range(10)]
                print("at once:", [future.result(10) for future in futures])
                try:
                    client.call("fibonacci", n=-1)
                except RPCError as error:
                    print("the server says:", error.type, error.text)
            with RPCClient(connection, "rpc_nobody") as client:
                try:
                    client.call("fibonacci", 30, timeout=0.2)
                except OperationTimeoutError as error:
                    print(error)
        finally:
            server.stop()
            thread.join()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
