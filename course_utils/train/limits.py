"""What the values of options may be: one table, looked at before anything is built.

The lessons' classes say `lr: float`, and Lightning's Trainer `max_epochs: int | None`. That is what
the parser checks. What narrower values make sense for the command stands here.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from math import inf

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt, restricted_number_type
from lightning.pytorch.accelerators import AcceleratorRegistry

from course_utils.train.errors import OptionError
from course_utils.train.known import course_name


class Limit:
    """What a value may be: one of `kinds`, which are functions that raise ValueError, or values."""

    def __init__(self, words: str, *kinds: object):
        self.words, self.kinds = words, kinds

    def accepts(self, value: object) -> bool:
        """Return whether the value is of one of the kinds."""
        return any(_is(kind, value) for kind in self.kinds)


def _is(kind: object, value: object) -> bool:
    if kind in (bool, str, dict, timedelta):
        return isinstance(value, kind)
    if not callable(kind):
        return type(kind) is type(value) and kind == value
    with suppress(ValueError, TypeError, OverflowError):
        kind(value)
        return True
    return False


def _int(name: str, *restrictions: tuple) -> type:
    return restricted_number_type(name, int, list(restrictions))


def _float(name: str, *restrictions: tuple) -> type:
    return restricted_number_type(name, float, list(restrictions))


def _named(folder: object) -> None:
    """Raise ValueError for a folder without a name."""
    if not str(folder).strip():
        raise ValueError


def _one_device(devices: object) -> None:
    """Raise ValueError unless this is one device, by its number in a list or as their count."""
    if devices not in (1, "1", "auto") and not (isinstance(devices, list) and len(devices) == 1):
        raise ValueError


def _each(kind: Callable) -> Callable:
    """Return a kind for lists and tuples, all of whose items are of a kind."""

    def check(values):
        if not isinstance(values, list | tuple):
            raise TypeError
        for value in values:
            kind(value)

    return check


def _duration(value: object) -> None:
    """Raise ValueError unless this is a time to train, as Lightning's Timer takes it."""
    if isinstance(value, dict | Namespace):
        value = timedelta(**dict(value))
    elif isinstance(value, str):
        if not re.fullmatch(r"\d+:\d+:\d+:\d+", value):
            raise ValueError
        days, hours, minutes, seconds = map(int, value.split(":"))
        value = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not value > timedelta():
        raise ValueError


def _here(name: object) -> None:
    """Raise ValueError unless this accelerator can be used on this computer."""
    if name not in accelerators_here():
        raise ValueError


def accelerators_here() -> list[str]:
    """Return the names that `--trainer.accelerator` may have on this computer."""
    found = [
        name
        for name, entry in sorted(AcceleratorRegistry.items())
        if entry["accelerator"].is_available()
    ]
    return ["auto", *found, *(["gpu"] if {"cuda", "mps"} & set(found) else [])]


COUNT = Limit("expected a whole number above 0", PositiveInt)
COUNT_OR_0 = Limit("expected a whole number, 0 or more", NonNegativeInt)
RATE = Limit("expected a number above 0", _float("Rate", (">", 0), ("<", inf)))
WEIGHT = Limit("expected a number, 0 or more", _float("Weight", (">=", 0), ("<", inf)))
SEED = Limit("expected a whole number, 0 or more", _int("DataSeed", (">=", 0), ("<", 2**63)))
BATCHES = Limit(
    "expected a number of batches above 0, or a share above 0 and up to 1.0",
    PositiveInt,
    _float("Share", (">", 0), ("<=", 1)),
)
ENDLESS = Limit("expected a whole number above 0, or -1 for no end", PositiveInt, -1)

FOLDER = Limit("expected the name of a folder", _named)
SEED_OF_ALL = Limit(
    "expected a whole number from 0 to 4294967295, or true for one by chance",
    _int("Seed", (">=", 0), ("<", 2**32)),
    bool,
)
TRAINER = {
    "accelerator": Limit("expected one that is here", _here),
    "accumulate_grad_batches": COUNT,
    "barebones": Limit("the command keeps a log and checkpoints; expected false", False),
    "check_val_every_n_epoch": COUNT,
    "devices": Limit(
        "the command uses one device (lesson 6 shows how to train on several)", _one_device
    ),
    "enable_checkpointing": Limit("the results are checkpoints; expected true", True),
    "fast_dev_run": Limit(
        "expected true, false or a number of batches", NonNegativeInt, True, False
    ),
    "gradient_clip_val": WEIGHT,
    "limit_predict_batches": BATCHES,
    "limit_test_batches": BATCHES,
    "limit_train_batches": BATCHES,
    "limit_val_batches": BATCHES,
    "log_every_n_steps": COUNT_OR_0,
    "max_epochs": ENDLESS,
    "max_steps": ENDLESS,
    "max_time": Limit("expected DD:HH:MM:SS, more than none", _duration),
    "min_epochs": COUNT_OR_0,
    "min_steps": COUNT_OR_0,
    "num_nodes": Limit("the command uses one computer; expected 1", 1),
    "num_sanity_val_steps": Limit("expected a whole number, 0 or more, or -1", NonNegativeInt, -1),
    "overfit_batches": Limit(BATCHES.words, 0, 0.0, *BATCHES.kinds),
    "reload_dataloaders_every_n_epochs": COUNT_OR_0,
    "val_check_interval": Limit(BATCHES.words, str, timedelta, dict, *BATCHES.kinds),
}
CLASSES = {
    "LitMLP": {
        "hidden": Limit(
            "expected widths from 1 to 1,000,000, as in [128, 256]",
            _each(_int("Width", (">", 0), ("<=", 10**6))),
        ),
        "lr": RATE,
    },
    "LitAutoEncoder": {"code_size": COUNT, "lr": RATE},
    "LitLeNet": {
        "in_channels": Limit("MNIST is grey; expected 1", 1),
        "num_classes": Limit(
            "MNIST has ten classes; expected 10 or more", _int("Classes", (">=", 10))
        ),
        "lr": RATE,
    },
    "LitStyle": {"width": COUNT, "content_weight": WEIGHT, "smooth_weight": WEIGHT, "lr": RATE},
    "ResumableMNIST": {"batch_size": COUNT, "seed": SEED},
    "MNISTDataModule": {"batch_size": COUNT, "seed": SEED},
    "StylePictures": {"batch_size": COUNT, "steps": COUNT, "seed": SEED},
}


def check(config: Namespace) -> None:
    """Raise OptionError for the first value that makes no sense among a subcommand's options."""
    _check(FOLDER, "out-dir", config.out_dir)
    _check(SEED_OF_ALL, "seed_everything", config.seed_everything)
    if not isinstance(config.trainer, Namespace):
        raise OptionError("trainer", "expected options, as in {max_epochs: 5}", config.trainer)
    for name, limit in TRAINER.items():
        if (value := config.trainer.get(name)) is not None:  # None is the Trainer's own choice
            _check(limit, f"trainer.{name}", value)
    rhythm, epochs = config.trainer.check_val_every_n_epoch, config.trainer.max_epochs
    if rhythm and epochs and 0 < epochs < rhythm:
        problem = f"of {epochs} epochs none would be validated"
        raise OptionError("trainer.check_val_every_n_epoch", problem, rhythm)
    if (config.optimizer or {}).get("init_args", {}).get("lr") is not None:
        _check(RATE, "optimizer.lr", config.optimizer.init_args.lr)
    for key in ("model", "data"):
        if not isinstance(config[key], Namespace):
            raise OptionError(key, "expected a class", config[key])
        check_class(key, config[key].class_path, config[key].get("init_args", {}))


def check_class(key: str, path: str, values: Mapping | Namespace) -> None:
    """Raise OptionError for the first argument of a course's class that makes no sense."""
    for name, limit in CLASSES.get(course_name(path), {}).items():
        if name in values:
            _check(limit, f"{key}.{name}", values[name])


def _check(limit: Limit, key: str, value: object) -> None:
    if not limit.accepts(value):
        here = f": {', '.join(accelerators_here())}" if key == "trainer.accelerator" else ""
        raise OptionError(key, limit.words + here, value)
