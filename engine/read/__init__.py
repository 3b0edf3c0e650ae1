"""The read side: many views, from a commit to an answer."""

__all__: list[str] = []
