"""Checkpoint files, which may come from strangers: what they say is looked at, and never run."""

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

import lightning as L
import torch
from torch import Tensor

from course_utils.train import configs
from course_utils.train.errors import CommandError
from course_utils.train.known import of_the_course

# What the Trainer takes from every checkpoint, and what it needs to go on with training.
ALWAYS = {
    "state_dict": dict,
    "pytorch-lightning_version": str,
    "epoch": int,
    "global_step": int,
}
TO_GO_ON = {"loops": dict, "optimizer_states": list, "lr_schedulers": list}


def read(path: str, to_go_on: bool = False) -> dict:
    """Return the content of a checkpoint: numbers, text and tensors, and no code.

    With `to_go_on` it has to hold the state of training, too. Raises CommandError for a file that
    is none.
    """
    if not Path(path).is_file():
        raise CommandError(f"there is no checkpoint {path}: give the path of a .ckpt file.")
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # whatever torch finds wrong with the file
        raise CommandError(
            f"{path} cannot be loaded as a checkpoint ({type(error).__name__}): it is damaged, "
            "of another kind, or holds more than weights."
        ) from None
    wanted = ALWAYS | (TO_GO_ON if to_go_on else {})
    found = content if isinstance(content, dict) else {}
    wrong = [key for key, kind in wanted.items() if not isinstance(found.get(key), kind)]
    if wrong:
        raise CommandError(
            f"{path} is no whole checkpoint of a Trainer: it has no {wrong[0]}, or not as a "
            f"{wanted[wrong[0]].__name__}."
        )
    return content


def class_path(content: dict, path: str, named: str | None) -> str:
    """Return the import path of the model that a checkpoint is of.

    `named` is the one that the command names, by its import path. A name in a file imports
    nothing: unless it is the same, it has to be in the course's own list. Raises CommandError.
    """
    of_file = _hyperparameters(content, path).get("_class_path", named)
    ours = of_the_course(of_file)
    if ours is None and (named is None or of_file != named):
        what = "does not say of which model it is" if of_file is None else "is of no course model"
        if isinstance(of_file, str) and named:
            what = "is of another model than --model names"
        raise CommandError(f"{path} {what}: name the right one yourself, by --model.")
    if named and ours and named != ours:
        name, other = ours.rpartition(".")[2], named.rpartition(".")[2]
        raise CommandError(f"{path} is of {name}, not of {other}: leave out --model.")
    return ours or named


def arguments(content: dict, path: str, model: str) -> dict:
    """Return the arguments of the model's class that a checkpoint holds.

    What could name code is refused: a class, and text where the class expects no text.
    """
    hints = _hints(model)
    found = {k: v for k, v in _hyperparameters(content, path).items() if not k.startswith("_")}
    for name, value in found.items():
        _check_texts(name, value, path)
        if _names_class(value) or (any(_texts(value)) and not _is_plain(hints.get(name))):
            raise CommandError(
                f"{path} holds a value for {name} that could name code: if you trust it, give it "
                f"yourself, by --model.{name}, and name the model by --model."
            )
    return found


def check_fit(content: dict, path: str, model: L.LightningModule) -> None:
    """Raise CommandError unless the weights of a checkpoint are those of the model."""
    found, wanted = content["state_dict"], model.state_dict()
    name = type(model).__name__
    if odd := sorted(found.keys() ^ wanted.keys(), key=str):
        where = "lacks" if odd[0] in wanted else "has besides"
        raise CommandError(f"{path} does not fit {name}: it {where} {odd[0]}.")
    for key, value in wanted.items():
        if not isinstance(found[key], Tensor) or found[key].shape != value.shape:
            there = tuple(getattr(found[key], "shape", ())) or type(found[key]).__name__
            here = tuple(value.shape)
            raise CommandError(
                f"{path} does not fit {name}: {key} is {there} there, and {here} here."
            )


def _hyperparameters(content: dict, path: str) -> dict:
    found = content.get("hyper_parameters", {})
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise CommandError(f"{path} is no whole checkpoint: its hyper_parameters have no names.")
    return dict(found)


def _hints(model: str) -> dict:
    """Return the types of the arguments of a class: none where they cannot be had."""
    module, _, name = model.rpartition(".")
    try:
        return get_type_hints(getattr(import_module(module), name).__init__)
    except Exception:  # the parser says what is wrong with it
        return {}


def _is_plain(hint: object) -> bool:
    """Return whether only plain values are expected here, so that text is nothing but text."""
    if get_origin(hint) is Literal:
        return True
    if get_origin(hint) in (Union, UnionType, list, tuple, dict):
        return all(_is_plain(part) for part in get_args(hint) if part is not ...)
    return hint in (str, int, float, bool, NoneType)


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in a value, at any depth."""
    if isinstance(value, str):
        yield value
    items = value.values() if isinstance(value, Mapping) else value
    if isinstance(items, Iterable) and not isinstance(items, str | Tensor):
        for item in items:
            yield from _texts(item)


def _check_texts(name: str, value: object, path: str) -> None:
    """Raise CommandError for a text that would be read as YAML, and take long."""
    try:
        for text in _texts(value):
            configs.check(text)
    except configs.UnfitError as error:
        raise CommandError(
            f"{path} cannot be used: its value for {name} is none: {error}."
        ) from None


def _names_class(value: object) -> bool:
    if isinstance(value, Mapping):
        return "class_path" in value or any(map(_names_class, value.values()))
    return isinstance(value, list | tuple | set) and any(map(_names_class, value))
