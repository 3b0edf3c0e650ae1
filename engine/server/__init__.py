"""The socket API: an engine or a replica served over TCP, TLS and Unix sockets; docs/protocol.md is what it speaks."""

from penstock.engine.server.limits import ServerLimits
from penstock.engine.server.listening import tls_context
from penstock.engine.server.server import Server
from penstock.engine.server.tokens import Role, Tokens

__all__ = ["Role", "Server", "ServerLimits", "Tokens", "tls_context"]
