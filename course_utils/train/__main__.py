"""`python -m course_utils.train`."""

import sys

from course_utils.train.main import main

if __name__ == "__main__":
    sys.exit(main())
