"""Proofs: what is killed, torn and asked again until something is lost or wrong. They measure nothing.

`torture` kills processes and tears files, `histories` asks the clients of killed servers. Beside them is what both
share: `files` (a log without the engine), `problems` (what is wrong, and where the evidence lies), `show`, `command`.
"""

__all__: list[str] = []
