"""A state as bytes: in pieces, exactly, with a fingerprint of its shape. Pure."""

__all__: list[str] = []
