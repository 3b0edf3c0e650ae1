"""What an application is: messages, models, views, and the checks of them. No state, no I/O."""

__all__: list[str] = []
