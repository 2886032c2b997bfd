"""Run the whole course without a browser: `python -m tools.course [NAME ...]`.

Prints a line for each lesson: seconds, the verdict of its proofs, its result. Exits with 1 if a
cell fails, or if a proof does not say `identical`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tools.execute import (
    NoLoopbackError,
    Run,
    check_loopback,
    digits_decided,
    execute,
    text_of,
)
from tools.project import notebook_of, sources

HEAD = f"{'lesson':<24} {'seconds':>8}  {'proof':<22} result"


def report(name: str, run: Run) -> tuple[str, str]:
    """Return the line of a lesson in the table, and what is wrong with it (or nothing)."""
    tags = {tag for cell in run.notebook.cells for tag in cell.metadata.get("tags", [])}
    verdicts = text_of(run.notebook, "verdict").splitlines()
    verdict = next((v for v in verdicts if v != "identical"), verdicts[0] if verdicts else "")
    result = text_of(run.notebook, "result").partition("\n")[0]
    wrong = run.error
    if not wrong and "verdict" in tags and verdict != "identical":
        wrong = f"the proof says {verdict!r} instead of 'identical'"
    line = f"{name:<24} {run.seconds:>8.1f}  {verdict or '-':<22} {result or '-'}"
    return line + ("  FAILED" if wrong else ""), wrong


def main() -> int:
    """Run the lessons in order and print the table."""
    parser = argparse.ArgumentParser(description="Run every lesson headless, in order.")
    parser.add_argument("names", nargs="*", help="only lessons whose name contains one of these")
    wanted = parser.parse_args().names
    paths = [notebook_of(source) for source in sources()]
    paths = [p for p in paths if not wanted or any(name in p.stem for name in wanted)]
    if not paths:
        print(f"No lesson's name contains {' or '.join(wanted)}.", file=sys.stderr)
        return 2
    try:
        check_loopback()
    except NoLoopbackError as error:
        print(error, file=sys.stderr)
        return 2
    failures = []
    with digits_decided() as digits, tempfile.TemporaryDirectory() as folder:
        print(f"Digits: {digits}\n{HEAD}", flush=True)
        for path in paths:
            line, wrong = report(path.stem, execute(path, Path(folder)))
            print(line, flush=True)
            if wrong:
                failures.append(f"{path.name}, {wrong}")
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
