"""The folder in which the scripts of several workers lie, with what they save."""

import tempfile
from pathlib import Path


class FolderError(RuntimeError):
    """A folder cannot be written; the message says which, why, and what to do."""


def writable_folder(name: str | Path) -> Path:
    """Return a folder that can be written; make it if it is not there.

    `name` is relative to the working folder, as in the scripts that lie in it.

    Raises FolderError, in one line, where nothing can be written, as on a full disk.
    """
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:  # to make a folder says nothing of files
            file.write(b"\0" * 4096)
    except OSError as error:
        raise FolderError(
            f"{folder} cannot be written here: {error.strerror or error}. Scripts and what they "
            "save have to lie in it: copy the notebook into a folder of your own, with some space "
            "left, and open it there."
        ) from None
    return folder
