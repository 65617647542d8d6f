"""moto's server. It has what S3 servers over files lack: STS, storage classes, odd keys."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def moto_server() -> Iterator[str]:
    """Start moto's server on a free loopback port, and give its address."""
    from moto.server import ThreadedMotoServer  # a second of CPU, not for each worker

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()
