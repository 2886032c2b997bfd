"""The training command: `python -m course_utils.train --help`."""

from course_utils.train.callbacks import KeepLast

__all__ = ["KeepLast"]
