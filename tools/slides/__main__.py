"""The command line: see `tools.slides.decks`."""

import sys

from tools.slides.decks import main

if __name__ == "__main__":
    sys.exit(main())
