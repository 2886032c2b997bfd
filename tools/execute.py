"""Run a notebook from its first cell to its last, as a learner would."""

import atexit
import os
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from zmq import ZMQError

from course_utils.digits.mnist import find_mnist
from course_utils.text import printable


class NoLoopbackError(RuntimeError):
    """No kernel can be reached on this machine; the message says what to do."""


@dataclass(frozen=True)
class Run:
    """One finished run: the notebook with its outputs, its seconds, and what went wrong."""

    notebook: NotebookNode
    seconds: float
    error: str = ""


def execute(path: Path, folder: Path, timeout: int = 600) -> Run:
    """Run a notebook with `folder` as its working directory; it may take `timeout` s a cell.

    An error does not raise: it is reported with the number of the cell and its first line, and so
    is a kernel that does not start.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        timeout=timeout,
        startup_timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],  # not its advice about transport encryption
    )
    start, error = time.monotonic(), ""
    try:
        client.execute()
    except CellExecutionError as failure:
        error = f"cell {_failed(notebook)}: {printable(failure.ename)}: {_line(failure.evalue)}"
    except CellTimeoutError:
        error = f"cell {_last(notebook)}: not done after {timeout} seconds"
    except DeadKernelError:
        error = f"cell {_last(notebook)}: the kernel died"
    except (RuntimeError, OSError, NoSuchKernel, ZMQError) as failure:
        error = f"the kernel did not start: {_line(failure)}"
        atexit.unregister(client._cleanup_kernel)  # nbclient's, which then fails at the exit
    return Run(notebook, time.monotonic() - start, error)


def check_loopback() -> None:
    """Raise NoLoopbackError unless this machine can talk to itself, as it does with its kernels."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=60).close()
    except OSError as error:
        raise NoLoopbackError(
            f"Nothing on this machine can be reached at 127.0.0.1 ({error.strerror or error}), and "
            "notebooks need that to talk to their kernels: bring up its loopback network, as by "
            "`ip link set lo up`."
        ) from None


@contextmanager
def digits_decided():
    """Decide once which digits all kernels use, and tell them by environment variable."""
    digits = find_mnist()
    bundled = "sample" in digits.origin
    before = {name: os.environ.get(name) for name in ("COURSE_DATA", "COURSE_DATA_DIR")}
    os.environ["COURSE_DATA"] = "sample" if bundled else "auto"
    if bundled:
        os.environ.pop("COURSE_DATA_DIR", None)
    else:
        os.environ["COURSE_DATA_DIR"] = str(digits.root)
    try:
        yield digits
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def text_of(notebook: NotebookNode, tag: str) -> str:
    """Return what the cells with a tag printed, or an empty string if there are none."""
    return "".join(
        output.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code" and tag in cell.metadata.get("tags", [])
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    ).strip()


def _line(words: object) -> str:
    """Return the first line of what a kernel said, fit to be shown."""
    return printable((str(words).strip().splitlines() or [""])[0])


def _failed(notebook: NotebookNode) -> int:
    """Return the number of the cell with an error, counting code cells from 1."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        if any(output.output_type == "error" for output in cell.outputs):
            return number
    return _last(notebook)


def _last(notebook: NotebookNode) -> int:
    """Return the number of the first code cell that did not finish."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    done = sum(cell.execution_count is not None for cell in code)
    return min(done + 1, len(code))
