"""The client of the socket API: an application that runs elsewhere, used as if it ran here."""

from penstock.engine.client.client import Client
from penstock.engine.client.dialling import client_tls
from penstock.engine.client.limits import ClientLimits
from penstock.engine.client.link import Link
from penstock.engine.client.sync import SyncClient

__all__ = ["Client", "ClientLimits", "Link", "SyncClient", "client_tls"]
