"""What is written: commits, the rule that chains them, and reading them back. Pure."""

__all__: list[str] = []
