"""Configurations and values in YAML, read with limits, so that none can tie up the command."""

import os
import stat
from pathlib import Path

import yaml
from jsonargparse import ActionConfigFile, get_loader, set_loader

from course_utils.train.errors import CommandError, shortened

MODE = "course"  # this loader's name, for `parser_mode`
LONGEST = 100_000  # characters; a whole configuration of the command has about 3,000
DEEPEST = 50  # brackets and blocks within each other
MOST = 10_000  # values, those that aliases repeat included


class UnfitError(yaml.YAMLError):
    """A text in YAML is nothing for this command: too large, or the name of a device or pipe."""


def load(text: str) -> object:
    """Return what a text in YAML says, as jsonargparse's own loader does.

    Raises yaml.YAMLError for a text that is none, and for one that would take long to build.
    """
    measure(text)
    return get_loader("yaml")(text)


# The hook that jsonargparse offers: it loads the values of options and configuration files alike.
set_loader(MODE, load, (yaml.YAMLError,))


def measure(text: str) -> None:
    """Raise UnfitError for a text that is too long, too deep, or grows by its aliases.

    The events of the parser are looked at one by one, before anything is built from them. So is
    what stands in a text within the text, as jsonargparse reads that as YAML again, and numbers
    and the like by another loader than the one that it lets us set. Raises yaml.YAMLError for what
    is no YAML.
    """
    if len(text) > LONGEST:
        raise UnfitError(f"it has more than {LONGEST:,} characters")
    anchors: dict[str, int] = {}  # how many values each one stands for
    open_: list[tuple[str | None, int]] = []  # collections: their anchor, and the values before
    values = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, values))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            anchors[anchor] = values - before + 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise UnfitError(f"the alias {event.anchor} stands within itself, or alone")
            values += anchors[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            anchors[event.anchor] = 1
            if _is_special(event.value):  # jsonargparse would wait for what comes out of it
                raise UnfitError(f"{event.value} is neither a file nor a folder")
            if event.value != text and set("[{&") & set(event.value):
                check(event.value)
        values += 1
        if len(open_) > DEEPEST:
            raise UnfitError(f"more than {DEEPEST} brackets or blocks stand in each other")
        if values > MOST:
            raise UnfitError(f"it has more than {MOST:,} values")


def _is_special(path: str) -> bool:
    """Return whether this is the path of a pipe, a device or the like."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check(text: str) -> None:
    """Raise UnfitError as `measure` does; a text that is no YAML is right."""
    try:
        measure(text)
    except UnfitError:
        raise
    except yaml.YAMLError:
        pass


def check_words(words: list[str]) -> None:
    """Raise CommandError for a word of a command that cannot be the value of an option."""
    for word, before in zip(words, ["", *words], strict=False):
        name, _, value = word.partition("=") if word.startswith("--") else (before, "", word)
        try:
            check(value)
        except UnfitError as error:
            raise CommandError(f"{shortened(name)}={shortened(value)}: {error}.") from None


class ConfigFile(ActionConfigFile):
    """The option `--config`: a file in UTF-8, or its text, with errors that name the file."""

    def __call__(self, parser, cfg, values, option_string=None) -> None:
        """Take the options of a file into those of the command."""
        if is_file := os.path.exists(values):
            read(values)
        try:
            super().__call__(parser, cfg, values, option_string)
        except CommandError as error:
            where = values if is_file else "--config"
            raise CommandError(f"{shortened(where)}: {error}") from None


def text_of(config: str) -> str:
    """Return a configuration as text: it is given as such, or as the path of a file."""
    return read(config) if os.path.exists(config) else config


def read(path: str) -> str:
    """Return the text of a configuration file. Raises CommandError if it cannot be one."""
    if not os.path.isfile(path):
        raise CommandError(f"{path} is no file: give a configuration in YAML, as --print_config.")
    try:
        if os.path.getsize(path) > 4 * LONGEST:
            raise CommandError(f"{path} is too large for a configuration.")
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CommandError(f"{path} is no text in UTF-8: save it as such.") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be read ({error.strerror or error}).") from None
