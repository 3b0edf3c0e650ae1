"""The client of the socket API: an application that runs elsewhere, used as if it ran here."""

from millstream.engine.application.shards import shard_of
from millstream.engine.client.client import Client
from millstream.engine.client.limits import ClientLimits
from millstream.engine.client.link import Link
from millstream.engine.client.routing import ShardAnswered, ShardReceipt, ShardToken
from millstream.engine.client.sharded import ShardedClient
from millstream.engine.client.sockets import client_tls
from millstream.engine.client.sync import SyncClient
from millstream.engine.client.sync_sharded import SyncShardedClient

__all__ = [
    "Client",
    "ClientLimits",
    "Link",
    "ShardAnswered",
    "ShardReceipt",
    "ShardToken",
    "ShardedClient",
    "SyncClient",
    "SyncShardedClient",
    "client_tls",
    "shard_of",
]
