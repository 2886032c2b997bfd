"""Can the course be taught on this computer now? `python -m course_utils.preflight` says.

It takes under a minute, needs no network and changes nothing: a line for each check, OK or FAIL
with what to do, and a last line with the verdict. The exit code is 1 if anything fails.
"""

import shutil
import sys

from course_utils.digits.mnist import find_mnist
from course_utils.files import runs_folder
from course_utils.installation import check_installation, passes
from course_utils.text import printable

KERNEL_SECONDS = 120  # that a kernel may need to start: some scanners of viruses read all of torch
ROOM = 500_000_000  # bytes: what all lessons write, several times over
SEEN = "torch and Lightning work in a notebook"
IN_A_NOTEBOOK = f"""
import lightning, torch
layer = torch.nn.Linear(2, 1)
layer(torch.ones(4, 2)).sum().backward()
assert layer.weight.grad.tolist() == [[4.0, 4.0]]
print({SEEN!r})
"""


def preflight() -> bool:
    """Print a line for each thing that a lesson needs, and a verdict; return whether all are OK."""
    ready = all([check_installation(), *map(passes, (_digits, _space, _notebook))])
    if ready:
        print("\nOK: this computer is ready.")
    else:
        print("\nNOT READY: each line above that begins with FAIL says what to do.")
    return ready


def _digits() -> str:
    return f"digits: {find_mnist()}"


def _space() -> str:
    folder = runs_folder()
    free = shutil.disk_usage(folder).free
    if not any(folder.iterdir()):
        folder.rmdir()
    if free < ROOM:
        raise RuntimeError(
            f"only {free / 1e6:.0f} MB are free on the disk: make room for {ROOM / 1e6:.0f} MB"
        )
    return f"lessons can write, and {free / 1e9:.0f} GB are free"


def _notebook() -> str:
    """Start a kernel as JupyterLab does, and run a cell in it."""
    from jupyter_client.manager import start_new_kernel

    try:
        manager, client = start_new_kernel(
            startup_timeout=KERNEL_SECONDS,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],  # not its advice about transport encryption
        )
    except Exception as error:  # of any kind: sockets, files, permissions, time
        raise RuntimeError(
            f"no notebook kernel starts ({printable(error)}): does a firewall or a scanner of "
            "viruses stop Python from talking to itself at 127.0.0.1? Allow it, and run this again"
        ) from None
    told: list[str] = []
    try:
        client.execute_interactive(
            IN_A_NOTEBOOK,
            timeout=KERNEL_SECONDS,
            allow_stdin=False,
            output_hook=lambda message: told.append(_words(message["content"])),
        )
    except TimeoutError:
        told.append(f"it was not done after {KERNEL_SECONDS} seconds")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    if SEEN not in "".join(told):
        raise RuntimeError(f"a notebook cannot compute: {printable(''.join(told))}")
    return SEEN


def _words(content: dict) -> str:
    if "ename" in content:
        return f"{content['ename']}: {content['evalue']}"
    return content.get("text", "")


def main() -> int:
    """Check everything; return 1 if the computer is not ready."""
    return 0 if preflight() else 1


if __name__ == "__main__":
    sys.exit(main())
