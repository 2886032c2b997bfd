"""How a command fails: in a line where the command is wrong, with a traceback where code is."""

from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from course_utils.digits.mnist import DataError
from course_utils.models.loss_network import LossNetworkError
from course_utils.models.style import SizeError
from course_utils.pictures.photographs import PictureError
from course_utils.switches import SwitchError
from course_utils.train.errors import CommandError, shortened
from course_utils.train.known import course_name

# What is wrong with the command or the surroundings: said in a line, without a traceback.
OURS = (CommandError, DataError, LossNetworkError, PictureError, SwitchError, SizeError)
OTHERS = ("callbacks", "logger", "plugins", "profiler", "strategy")  # may be of one's own


class TrainingInterruptedError(Exception):
    """Training was interrupted; the message is the command that goes on with it, if one can."""


@contextmanager
def in_a_line(cli: LightningCLI) -> Iterator[None]:
    """Turn what goes wrong in the block into a CommandError, if the command is to blame for it.

    That is so before the first step, as long as all classes are the course's; for what Lightning
    itself says of its options; and for files and disks.
    """
    try:
        yield
    except (*OURS, TrainingInterruptedError):
        raise
    except Exception as error:
        cause = error
        while cause and not isinstance(cause, OURS):
            cause = cause.__cause__  # jsonargparse wraps what a constructor raises
        if cause:
            raise cause from None
        if isinstance(error, MisconfigurationException | OSError) or _is_all_ours(cli):
            raise CommandError(_line_of(error, cli)) from error
        raise


def _is_all_ours(cli: LightningCLI) -> bool:
    """Return whether the command is before its first step, and all its classes the course's."""
    if cli.start.done:
        return False
    if "config" not in vars(cli):
        return True
    config = cli.config[cli.config.subcommand]
    simple = all(isinstance(config.trainer[key], str | bool | None) for key in OTHERS)
    return simple and all(course_name(config[key].class_path) for key in ("model", "data"))


def _line_of(error: Exception, cli: LightningCLI) -> str:
    while error.__cause__:
        error = error.__cause__
    kind = "" if isinstance(error, MisconfigurationException) else f"{type(error).__name__}: "
    what = f"{kind}{shortened(error, 300)}"
    return (
        f"{what} Go on with: {cli.resuming()}" if cli.start.done else f"it cannot be done. {what}"
    )
