"""What each worker has said, read from torchrun's log files, and how it ended."""

import re
import signal
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# How much of a failed worker's output an error shows; the rest of a line may be a progress bar.
LAST_LINES, WIDTH = 8, 300
# How many failed workers an error shows; the same mistake is mostly in all of them.
SHOWN = 4
# A worker's part of the report that torchrun prints when one has failed.
REPORTED = re.compile(r"rank *: (\d+) \(local_rank: \d+\)\s+exitcode *: (-?\d+)")


@dataclass(frozen=True)
class Failure:
    """A worker that failed: its rank, its exit code (minus a signal's number), its last words."""

    rank: int
    code: int
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in one line, without the words."""
        if self.code >= 0:
            return f"worker {self.rank} ended with exit code {self.code}"
        name = f"signal {-self.code}"
        with suppress(ValueError):  # a number that this system has no name for
            name = signal.Signals(-self.code).name
        return f"worker {self.rank} was ended by {name} (exit code {self.code})"

    def told(self) -> str:
        """Say it with its last words below."""
        if not self.words:
            return f"{self}. It printed nothing."
        return "\n".join([f"{self}. It printed last:", *(f"    {line}" for line in self.words)])


class WorkerLogs:
    """The files into which torchrun writes what each worker prints, read as they grow."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._read: dict[Path, int] = defaultdict(int)
        self._unfinished: dict[Path, bytes] = defaultdict(bytes)

    def new(self, last: bool = False) -> list[tuple[int, str]]:
        """Return the lines that have come since, with their worker's rank.

        A line without an end is held back, unless this is the `last` call.
        """
        found = []
        # A worker's errors come after what it printed until then: so does its traceback.
        for path in sorted(self._folder.glob("*/attempt_*/*/std*.log"), key=_rank_and_stream):
            with path.open("rb") as file:
                file.seek(self._read[path])
                text = file.read()
            self._read[path] += len(text)
            *lines, rest = (self._unfinished[path] + text).split(b"\n")
            if last and rest:
                lines, rest = [*lines, rest], b""
            self._unfinished[path] = rest
            rank = int(path.parent.name)
            found += [(rank, line.decode("utf-8", "replace").rstrip("\r")) for line in lines]
        return found


def failures(report: Iterable[str], said: Iterable[tuple[int, str]]) -> list[Failure]:
    """Return the workers that failed by themselves, in order of rank.

    `report` are the lines of the launcher, `said` those of the workers. The launcher ends the
    workers that are left by SIGTERM: they count only if there are no others.
    """
    words: dict[int, list[str]] = defaultdict(list)
    for rank, line in said:
        shown = line.rpartition("\r")[2].rstrip()  # a progress bar writes over itself
        if shown:
            words[rank].append(shown[:WIDTH])
    ended = {int(rank): int(code) for rank, code in REPORTED.findall("\n".join(report))}
    own = {rank: code for rank, code in ended.items() if code != -signal.SIGTERM} or ended
    return [Failure(rank, own[rank], tuple(words[rank][-LAST_LINES:])) for rank in sorted(own)]


def told(failed: list[Failure]) -> str:
    """Say of each failed worker how it ended and what it printed last; of many, of the first."""
    text = "\n".join(_sentence(failure.told()) for failure in failed[:SHOWN])
    more = "; ".join(str(failure) for failure in failed[SHOWN:])
    return f"{text}\n{_sentence(more)}." if more else text


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _rank_and_stream(path: Path) -> tuple[int, bool]:
    return int(path.parent.name), path.name == "stderr.log"
