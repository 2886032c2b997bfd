"""Settings of optimizers and schedulers, as plain values that can be compared and saved."""

from numbers import Number

import torch
from torch.optim import Optimizer

from .record import Group

# How the arithmetic is carried out, not what is computed: two equal loops may differ in these.
IMPLEMENTATION = {"params", "lr", "initial_lr", "foreach", "fused", "capturable", "differentiable"}
MOST_NUMBERS = 32  # of a list in a setting


def group_of(group: dict, numbers: dict[int, int], optimizer: Optimizer) -> Group:
    """Return the record of a parameter group.

    Settings are what the optimizer itself has a default for; a group's name and other labels that
    a program keeps there steer nothing.
    """
    known = optimizer.defaults.keys() - IMPLEMENTATION
    settings = {key: plain(group[key]) for key in sorted(known) if key in group}
    members = sorted(numbers[id(p)] for p in group["params"] if id(p) in numbers)
    kernel = " ".join(key for key in ("fused", "foreach", "capturable") if group.get(key))
    return Group(plain(group.get("lr")), _Settings(settings), tuple(members), kernel)


class Groups:
    """Reads the parameter groups of optimizers, anew only where something in them has changed."""

    def __init__(self):
        self.known: dict[int, tuple[dict, list, tuple[Group, ...]]] = {}

    def read(self, optimizer: Optimizer, numbers: dict[int, int]) -> tuple[Group, ...]:
        """Return the records of all groups; `numbers` are the places of the model's parameters."""
        seen: list = []
        for group in optimizer.param_groups:
            seen += [value for key, value in group.items() if key != "params"]
            seen += map(id, group["params"])
        known = self.known.get(id(optimizer))
        if known and known[0] is numbers and _unchanged(known[1], seen):
            return known[2]
        groups = tuple(group_of(group, numbers, optimizer) for group in optimizer.param_groups)
        self.known[id(optimizer)] = numbers, seen, groups
        return groups


def _unchanged(before: list, now: list) -> bool:
    """Return whether values are the same, of kinds that cannot change in place."""
    return len(before) == len(now) and all(
        _fixed(one) and (one is other or one == other)
        for one, other in zip(now, before, strict=True)
    )


def _fixed(value: object) -> bool:
    return type(value) in FIXED or (type(value) is tuple and all(map(_fixed, value)))


FIXED = {int, float, bool, str, type(None)}


class _Settings(dict):
    """A dictionary that can be looked up, as it does not change any more."""

    def __hash__(self) -> int:
        return hash(tuple(sorted(map(repr, self.items()))))


def settings_of(scheduler: object) -> dict[str, object]:
    """Return the numbers that a scheduler was given, such as `T_max` and `total_steps`."""
    own = vars(scheduler).items()
    return {
        key: plain(value)
        for key, value in own
        if not key.startswith("_") and key not in STATE and _is_plain(value)
    }


# What a scheduler keeps of its way so far, and what it is told by its optimizer.
STATE = {
    "last_epoch",
    "base_lrs",
    "optimizer",
    "num_bad_epochs",
    "best",
    "cooldown_counter",
    "T_cur",
}


def _is_plain(value: object) -> bool:
    return isinstance(value, (Number, str)) or (
        isinstance(value, (list, tuple)) and all(isinstance(v, (Number, str)) for v in value)
    )


def plain(value: object) -> object:
    """Return a setting as a number, a text, or a tuple of such."""
    if isinstance(value, torch.Tensor):
        value = value.item() if value.numel() == 1 else value.tolist()
    elif hasattr(value, "item") and hasattr(value, "dtype"):  # NumPy's numbers
        value = value.item() if getattr(value, "size", 1) == 1 else value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(plain(item) for item in value[:MOST_NUMBERS])
    return getattr(value, "__qualname__", None) or type(value).__name__
