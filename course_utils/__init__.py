"""The helper package of the course "From Loops to Lightning".

It holds what would distract in a lesson: finding the digits, plots, the proof that a port is
equal to its loop, the side-by-side view and the timing. Models, loops and LightningModules are
written out in the lessons themselves.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("loops-to-lightning")
except PackageNotFoundError:  # the folder is on the path, but nothing was installed
    __version__ = "0+unknown"
