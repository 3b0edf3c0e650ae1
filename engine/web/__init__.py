"""The HTTP API: an ASGI application made from an `App`, and a server for it; docs/http.md has both."""

from millstream.engine.web.app import WebApp
from millstream.engine.web.limits import WebLimits
from millstream.engine.web.serving import WebServer

__all__ = ["WebApp", "WebLimits", "WebServer"]
