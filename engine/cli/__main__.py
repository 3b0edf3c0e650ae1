"""``python -m penstock.engine.cli``: the same as ``penstock``."""

import sys

from penstock.engine.cli.start import main

if __name__ == "__main__":
    sys.exit(main())
