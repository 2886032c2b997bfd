"""The models of the course, by their names, and the data that each of them takes."""

from jsonargparse import Namespace

from course_utils import models
from course_utils.train.errors import CommandError, OptionError

MODELS = sorted(name for name in dir(models) if name.startswith("Lit"))
MNIST = "course_utils.digits.data.ResumableMNIST"
PHOTOGRAPHS = "course_utils.models.style.StylePictures"
DATA = {"LitStyle": PHOTOGRAPHS}  # models of other data than MNIST
DIGITS = ("ResumableMNIST", "MNISTDataModule")
MARGIN = {"LitLeNet": 2}  # models that want a margin, and how wide


def course_name(path: object) -> str:
    """Return the name of a class in the course, from its import path; empty for other classes."""
    package, _, name = str(path).rpartition(".")
    return name if package.partition(".")[0] == "course_utils" else ""


def of_the_course(path: object) -> str | None:
    """Return the import path of a course's model, from its name or from any path in the course.

    The list decides, and nothing is imported. None if the model is none of the course's.
    """
    name = path if path in MODELS else course_name(path)
    return f"{models.__name__}.{name}" if name in MODELS else None


def fit_data(config: Namespace) -> None:
    """Give digits the margin that a course's model wants. Raises CommandError for other data."""
    model, data = course_name(config.model.class_path), course_name(config.data.class_path)
    if model not in MODELS or data not in (*DIGITS, course_name(PHOTOGRAPHS)):
        return
    wanted = DATA.get(model, MNIST)
    if (data in DIGITS) != (wanted == MNIST):
        what = "digits" if data in DIGITS else "photographs"
        raise CommandError(f"{model} takes no {what}: leave out --data, or give {wanted}.")
    if data in DIGITS:
        margin, pad = MARGIN.get(model, 0), config.data.init_args.pad
        if pad not in (0, margin):
            raise OptionError("data.pad", f"{model} takes {margin}, and gets it by itself", pad)
        config.data.init_args.pad = margin
