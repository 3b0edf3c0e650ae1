"""The protocol of the socket API, without any socket: bytes in, messages out. docs/protocol.md describes it."""

from penstock.engine.wire.address import Address, parse_address
from penstock.engine.wire.faults import ErrorObject, error_from, error_object
from penstock.engine.wire.lines import FrameTooLarge, Lines
from penstock.engine.wire.messages import Notification, Reply, ReplyId, Request
from penstock.engine.wire.requests import Malformed, Requests

__all__ = [
    "Address",
    "ErrorObject",
    "FrameTooLarge",
    "Lines",
    "Malformed",
    "Notification",
    "Reply",
    "ReplyId",
    "Request",
    "Requests",
    "error_from",
    "error_object",
    "parse_address",
]
