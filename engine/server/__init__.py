"""The socket API: an engine or a replica served over TCP, TLS and Unix sockets, as docs/reference/protocol.md says."""

from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.listening import tls_context
from millstream.engine.server.server import Server
from millstream.engine.server.tokens import Role, Tokens

__all__ = ["Role", "Server", "ServerLimits", "Tokens", "tls_context"]
