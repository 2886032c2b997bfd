"""The parser of the command: jsonargparse's, with its own loader and errors in one line."""

from lightning.pytorch.cli import LightningArgumentParser

from course_utils.train.configs import MODE
from course_utils.train.errors import A_CLASS, CommandError, OptionError, as_line, shortened
from course_utils.train.known import MODELS


class CourseParser(LightningArgumentParser):
    """A parser whose errors are one clear line, and which takes no option by half its name."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{"allow_abbrev": False, "parser_mode": MODE} | kwargs)

    def error(self, message: str, ex: Exception | None = None) -> None:
        """Raise CommandError with the part of the message that a person needs."""
        line = as_line(message, ex, [action.dest for action in self._actions])
        if isinstance(line, OptionError) and (line.key, line.problem) == ("model", A_CLASS):
            line = CommandError(
                f"unknown model {shortened(line.value)}: the course has {', '.join(MODELS)}; one "
                "of your own needs its import path, as in --model my_module.MyModel."
            )
        raise line
