"""``python -m millstream.engine.cli``: the same as ``millstream``."""

import sys

from millstream.engine.cli.start import main

if __name__ == "__main__":
    sys.exit(main())
