"""The outside world: performing what is owed to it, and handing in what came of that."""

__all__: list[str] = []
