"""The port doctor on the command line: `python -m course_utils.parity --help`."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
