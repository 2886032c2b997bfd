"""The notebook's kernel: whether there is one, and how an interrupted Trainer ends in it."""

import sys
from collections.abc import Callable
from functools import wraps

import lightning as L

ENTRIES = ("fit", "validate", "test", "predict")


def in_notebook() -> bool:
    """Return whether output goes to Jupyter or Colab, which can redraw it in place."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


def hand_on_interrupts() -> None:
    """Let an interrupted Trainer end a cell as an interrupted loop does: by KeyboardInterrupt.

    Lightning tidies up and then exits, as a script should. In a notebook nothing exits, but it
    looks so: `SystemExit: 1`, and advice on how to exit. Does nothing where there is no notebook.
    """
    if not in_notebook():
        return
    for name in ENTRIES:
        method = getattr(L.Trainer, name)
        if not hasattr(method, "hands_on_interrupts"):
            setattr(L.Trainer, name, _handing_on(method))


def _handing_on(method: Callable) -> Callable:
    @wraps(method)
    def run(*args, **kwargs):
        try:
            return method(*args, **kwargs)
        except SystemExit as end:
            if not isinstance(end.__context__, KeyboardInterrupt):
                raise
        raise KeyboardInterrupt  # out here, so that Lightning's long traceback is not its context

    run.hands_on_interrupts = True
    return run
