"""The outside world: attempts at what is owed, one after another per key, and handing in what came of them."""

__all__: list[str] = []
