"""A server that sends back what it receives: ``python -m millstream.bench.socket.echo``. What sockets alone can do."""

from __future__ import annotations

import select
import socket
import sys

__all__ = ["main"]

_CHUNK_BYTES = 1 << 16


def main() -> None:
    """Serve until a signal ends it; the port that it took is said on standard output."""
    connections: dict[int, socket.socket] = {}
    watched = getattr(select, "epoll", select.poll)()
    with socket.create_server(("127.0.0.1", 0), backlog=1_024) as listening:
        watched.register(listening.fileno(), select.POLLIN)
        sys.stdout.write(f"port {listening.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            for file, _ in watched.poll():
                connection = connections.get(file)
                if connection is None:
                    connection, _ = listening.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connections[connection.fileno()] = connection
                    watched.register(connection.fileno(), select.POLLIN)
                elif data := connection.recv(_CHUNK_BYTES):
                    connection.sendall(data)
                else:
                    watched.unregister(file)
                    connections.pop(file).close()


if __name__ == "__main__":
    main()
