"""The command line: see `tools.kit.pack`."""

import sys

from tools.kit.pack import main

if __name__ == "__main__":
    sys.exit(main())
