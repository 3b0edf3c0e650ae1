"""Observers of what happens in an engine: the log lines, a program's metrics, a test."""

from millstream.engine.observers.faults import Fault, Faults
from millstream.engine.observers.log_lines import LogLines
from millstream.engine.observers.observer import Observer, has_hook
from millstream.engine.observers.observers import Observers

__all__ = ["Fault", "Faults", "LogLines", "Observer", "Observers", "has_hook"]
