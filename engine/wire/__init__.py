"""The protocol of the socket API, without any socket: bytes in, messages out. docs/protocol.md describes it."""

from penstock.engine.wire.faults import ErrorObject, error_from, error_object
from penstock.engine.wire.lines import FrameTooLarge, Lines
from penstock.engine.wire.messages import Reply, ReplyId, Request
from penstock.engine.wire.requests import Malformed, Requests

__all__ = [
    "ErrorObject",
    "FrameTooLarge",
    "Lines",
    "Malformed",
    "Reply",
    "ReplyId",
    "Request",
    "Requests",
    "error_from",
    "error_object",
]
