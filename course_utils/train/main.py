"""The command as a whole, with its exit codes."""

import signal
import sys
import warnings

import lightning as L

from course_utils.session import quieten
from course_utils.train.cli import CourseCLI
from course_utils.train.errors import shortened
from course_utils.train.failures import OURS, TrainingInterruptedError
from course_utils.train.options import PARSER, trainer_defaults
from course_utils.train.parser import CourseParser

QUIET = (
    ".*in eval mode at the start of training.*",  # loss networks
    "The dirpath has changed from.*",  # a run that goes on in another folder, as was asked for
    ".*exists and is not empty.*",  # files of an earlier run are asked about before
    ".*callbacks used to create the checkpoint need.*",  # what fit goes on with, test needs not
    ".*configure_optimizers. will be overridden by.*",  # as --optimizer asks for
    ".*smaller than the logging interval.*",  # the means of an epoch are logged all the same
)

LONGEST_LINE = 1000


def main() -> int:
    """Run a command and return its exit code: 0, 2 for a wrong command, 130 if interrupted."""
    quieten()
    for warning in QUIET:
        warnings.filterwarnings("ignore", warning)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a kill ends as Ctrl-C does
    try:
        CourseCLI(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=42,
            parser_class=CourseParser,
            parser_kwargs=PARSER,
            trainer_defaults=trainer_defaults(),
        )
    except OURS as error:
        print(f"error: {shortened(error, LONGEST_LINE)}", file=sys.stderr)
        return 2
    except TrainingInterruptedError as stop:
        going_on = f" Go on with:\n  {stop}" if str(stop) else ""
        print(f"Interrupted.{going_on}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 0
