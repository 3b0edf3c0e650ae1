"""The protocol of the socket API, without any socket: bytes in, messages out: docs/reference/protocol.md."""

from millstream.engine.wire.address import Address, parse_address
from millstream.engine.wire.errors import ErrorObject, error_from, error_object
from millstream.engine.wire.lines import Cut, FrameTooLarge, Lines, stranger_in
from millstream.engine.wire.messages import Notification, Reply, ReplyId, Request
from millstream.engine.wire.requests import Malformed, Requests, Unread

__all__ = [
    "Address",
    "Cut",
    "ErrorObject",
    "FrameTooLarge",
    "Lines",
    "Malformed",
    "Notification",
    "Reply",
    "ReplyId",
    "Request",
    "Requests",
    "Unread",
    "error_from",
    "error_object",
    "parse_address",
    "stranger_in",
]
