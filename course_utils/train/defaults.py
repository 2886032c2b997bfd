"""What a command leaves open: the model, and the data that fits it."""

import argparse
from copy import deepcopy
from dataclasses import dataclass

import lightning as L
import yaml

from course_utils.train import checkpoint, configs, limits
from course_utils.train.errors import CommandError
from course_utils.train.known import DATA, MNIST, course_name, of_the_course
from course_utils.train.parser import CourseParser


@dataclass(frozen=True)
class Given:
    """What a command and its configuration files name."""

    model: str | None
    data: str | None
    checkpoint: str | None


def given(words: list[str], subcommand: str) -> Given:
    """Return what a command names, before it is parsed as a whole.

    The defaults of the parser have to be right before it starts, as the options of a class are
    parsed as those of its default. jsonargparse offers `set_defaults` for that, which is used;
    `default_config_files` are always the same ones; the target of `link_arguments` cannot be given
    by hand any more; and `parse_known_args` it refuses, so that this is argparse's own.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("model", "data"):
        parser.add_argument(f"--{name}", f"--{name}.class_path", dest=name, nargs="?")
    parser.add_argument("--ckpt_path", nargs="?")
    parser.add_argument("-c", "--config", action="append", default=[], nargs="?")
    found, _ = parser.parse_known_args(words)
    of_files = [_of_config(config, subcommand) for config in found.config if config]
    of_files = {key: value for one in of_files for key, value in one.items() if value}
    return Given(
        found.model or of_files.get("model"),
        found.data or of_files.get("data"),
        found.ckpt_path or of_files.get("ckpt_path"),
    )


def _of_config(config: str, subcommand: str) -> dict[str, str]:
    """Return model, data and checkpoint that a configuration, a file or its text, names."""
    try:
        content = configs.load(configs.text_of(config))
    except (CommandError, yaml.YAMLError):  # the parser says what is wrong with it
        return {}
    content = content if isinstance(content, dict) else {}
    content = content.get(subcommand, content)
    found = {key: content.get(key) for key in ("model", "data", "ckpt_path")}
    found = {k: v.get("class_path") if isinstance(v, dict) else v for k, v in found.items()}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def defaults(named: Given, content: dict | None) -> dict:
    """Return the parser's defaults for model and data; `content` is that of the checkpoint.

    A model that is named gets no default, as it would inherit the arguments of another class.
    """
    model = of_the_course(named.model) or named.model
    found = {}
    if content is not None:
        found["model"] = _of_checkpoint(content, named.checkpoint, model)
        model = found["model"]["class_path"]
    elif model is None:
        model = of_the_course("LitMLP")
        found["model"] = {"class_path": model}
    if named.data is None:
        found["data"] = {"class_path": DATA.get(course_name(model), MNIST)}
    return found


def _of_checkpoint(content: dict, path: str, named: str | None) -> dict:
    """Return the class and the arguments of a checkpoint's model, once a parser accepts them."""
    model = checkpoint.class_path(content, path, named)
    arguments = checkpoint.arguments(content, path, model)
    kind = "init_args" if course_name(model) else "dict_kwargs"  # as LightningCLI has it
    spec = {"class_path": model, kind: arguments}
    parser = CourseParser()
    parser.add_subclass_arguments(L.LightningModule, "model", fail_untyped=False)
    try:
        parser.parse_object({"model": deepcopy(spec)})  # it takes dict_kwargs apart
        limits.check_class("model", model, arguments)
    except CommandError as error:
        raise CommandError(f"{path} cannot be used: {error}") from None
    return spec
