"""The socket API: an engine or a replica served over TCP, TLS and Unix sockets, as docs/reference/protocol.md says."""

from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.listening import tls_context
from millstream.engine.server.server import Server
from millstream.engine.server.tokens import Permits, Role, Tokens, roles_from

__all__ = ["Permits", "Role", "Server", "ServerLimits", "Tokens", "roles_from", "tls_context"]
