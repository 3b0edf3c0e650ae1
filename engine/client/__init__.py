"""The client of the socket API: an application that runs elsewhere, used as if it ran here."""

from millstream.engine.client.client import Client
from millstream.engine.client.limits import ClientLimits
from millstream.engine.client.link import Link
from millstream.engine.client.sockets import client_tls
from millstream.engine.client.sync import SyncClient

__all__ = ["Client", "ClientLimits", "Link", "SyncClient", "client_tls"]
