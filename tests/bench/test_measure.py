"""That what is measured of a process is that process's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MB = 1 << 20


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="elsewhere a process is told no peak of its own")
def test_the_peak_of_memory_is_not_that_of_the_process_which_started_this_one() -> None:
    asked = "from millstream.bench.measure import peak_bytes; print(peak_bytes())"
    starting = (
        f"import subprocess, sys; held = bytearray({300 * MB}); subprocess.run([sys.executable, '-c', {asked!r}])"
    )
    done = subprocess.run([sys.executable, "-c", starting], capture_output=True, text=True, check=True)
    assert 5 * MB < int(done.stdout) < 200 * MB
