"""The port doctor's commands: `run` a script under a trace, `compare` two traces, `show` one."""

import os
import runpy
import sys
import traceback
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from contextlib import contextmanager
from math import isnan
from pathlib import Path

from torch.optim import Optimizer

from .compare import compare
from .named import trace_named
from .trace import Trace
from .watch import Watcher, unwatch, watch

PROGRAM = f"python -m {__package__}"
DIFFERENT, WRONG, INTERRUPTED = 1, 2, 130  # exit codes
SHOWN_STEPS = 3  # at each end of a run

HELP = f"""Prove that two training runs compute the same thing, or find where they part and why.

examples:
  {PROGRAM} run train.py --model GPT -o raw.trace
  {PROGRAM} run port.py --model GPT -o port.trace --steps 50 -- --epochs 3
  {PROGRAM} compare raw.trace port.trace --names "raw loop" Lightning
  {PROGRAM} show raw.trace
"""

RUN = """Run a script as Python would, and record every step that trains its network.

The script is not changed. What is watched is the first network that is built of the class with
the name given by --model, wherever it is defined. Arguments that are not this command's own go to
the script; all that stand behind `--` do. If the script fails or is interrupted, what was recorded
is kept."""

COMPARE = """Compare two traces step by step, and say where they first differ and why.

Exit code: 0 if identical or equal within rounding, 1 if different, 2 if a file can't be read."""

SHOW = """Say what a trace holds: steps, network, optimizer, surroundings, the first and last steps.
"""


class _Parser(ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> None:
        self.exit(WRONG, f"{self.prog}: {message}\n")


class _EnoughError(BaseException):
    """Ends a script after as many steps as were asked for."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    own, given = _split(arguments) if arguments[:1] == ["run"] else (arguments, [])
    options = _parser().parse_args(own)
    try:
        if options.command == "run":
            return _run(options, given)
        return _compare(options) if options.command == "compare" else _show(options)
    except (OSError, ValueError) as error:
        print(f"{PROGRAM} {options.command}: {_line(error)}", file=sys.stderr)
        return WRONG


def _parser() -> ArgumentParser:
    parser = _Parser(PROGRAM, description=HELP, formatter_class=RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands"
    )

    def add(name: str, text: str) -> ArgumentParser:
        return commands.add_parser(
            name,
            help=text.partition("\n")[0],
            description=text,
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    run = add("run", RUN)
    run.usage = f"{PROGRAM} run SCRIPT --model NAME [-o FILE] [--steps N] [arguments of the script]"
    run.add_argument("script", metavar="SCRIPT", help="the Python file to run")
    run.add_argument("--model", required=True, metavar="NAME", help="the class of its network")
    run.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to save the trace "
                     "(the script's name with .trace, in this folder)")  # fmt: skip
    run.add_argument("--steps", type=_positive, metavar="N", help="stop after so many steps")

    two = add("compare", COMPARE)
    two.add_argument("first", type=Path, metavar="A", help="a trace")
    two.add_argument("second", type=Path, metavar="B", help="another one")
    two.add_argument("--names", nargs=2, metavar=("A", "B"), help="what to call the two runs")
    two.add_argument("--json", action="store_true", help="print the report as JSON")
    two.add_argument("--exact", action="store_true", help="exit with 1 unless identical")

    show = add("show", SHOW)
    show.add_argument("trace", type=Path, metavar="TRACE", help="a trace")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError
    return int(text)


_positive.__name__ = "number of steps"  # argparse says: invalid number of steps value


# run


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Divide the arguments of `run` into its own and those of the script."""
    own, given, waiting = [arguments[0]], [], list(arguments[1:])
    script = False
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            return own, given + waiting
        if word in ("--model", "-o", "--output", "--steps"):
            own += [word, *waiting[:1]]
            waiting = waiting[1:]
        elif word.startswith(("--model=", "--output=", "--steps=")):
            own.append(word)
        elif script:
            given.append(word)
        else:
            own.append(word)
            script = not word.startswith("-")
    return own, given


class _Limit(Watcher):
    """Ends the script after so many steps of the network that is traced."""

    def __init__(self, record: Trace, steps: int):
        self.record = record
        self.steps = steps

    def on_step_end(self, optimizer: Optimizer) -> None:
        if len(self.record.steps) >= self.steps:
            raise _EnoughError


def _run(options: Namespace, given: list[str]) -> int:
    script = Path(options.script)
    if not script.is_file():
        raise FileNotFoundError(f"there is no script {script}")
    output = (options.output or Path(f"{script.stem}.trace")).absolute()
    if not output.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {output.parent} for the trace")
    code = 0
    try:
        with trace_named(options.model) as record:
            code = _watched(record, script, given, options.steps)
    except ValueError:
        if not code:  # after an error of the script, that error is what matters
            raise
    if not record.steps:
        if code:
            return code
        raise ValueError(
            f"{options.model} was built, but no optimizer step updated it: nothing is saved."
            if not record.by_hand
            else f"{options.model} is updated by hand, without an optimizer: such steps can't be "
            "seen, and nothing is saved."
        )
    record.save(output)
    print(f"{options.output or output.name}: {len(record.steps):,} steps of {options.model}, "
          f"{_weights(record):,} weights, on {record.device}", file=sys.stderr)  # fmt: skip
    return code


def _watched(record: Trace, script: Path, given: list[str], steps: int | None) -> int:
    """Run the script; return the exit code that it would have had by itself."""
    limit = _Limit(record, steps) if steps else None
    if limit:
        watch(limit)  # after the trace's own watcher: the last step is recorded
    try:
        with _started_by_itself(script, given):
            runpy.run_path(str(script), run_name="__main__")
    except _EnoughError:
        return 0
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        traceback.print_exception(error.with_traceback(_of_script(error, script)))
        return 1
    finally:
        if limit:
            unwatch(limit)
    return 0


@contextmanager
def _started_by_itself(script: Path, given: list[str]):
    """Set what a script finds when Python is started with it."""
    before = sys.argv, sys.path[:]
    sys.argv = [str(script), *given]
    sys.path[0] = str(script.resolve().parent)
    try:
        yield
    finally:
        sys.argv, sys.path[:] = before


def _of_script(error: BaseException, script: Path):
    """Return the error's traceback from the script's first line on."""
    found = error.__traceback__
    while found and Path(found.tb_frame.f_code.co_filename) != script:
        found = found.tb_next
    return found or error.__traceback__


# compare and show


def _compare(options: Namespace) -> int:
    names = options.names or _names(options.first, options.second)
    report = compare(Trace.load(options.first), Trace.load(options.second), tuple(names))
    print(report.to_json() if options.json else report)
    wrong = ("different", "equal within rounding") if options.exact else ("different",)
    return DIFFERENT if report.verdict in wrong else 0


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Return the files' names, with as much of their folders as tells them apart."""
    if first.stem != second.stem:
        return first.stem, second.stem
    return str(first), str(second)


def _show(options: Namespace) -> int:
    record = Trace.load(options.trace)
    lines = [f"{options.trace}: {len(record.steps):,} steps", *_about(record), ""]
    print("\n".join(lines + _table(record)))
    return 0


def _weights(record: Trace) -> int:
    return sum(tensor.numel() for tensor in record.start.parameters.values())


def _about(record: Trace) -> list[str]:
    tensors = record.start.parameters
    facts = [("network", f"{_weights(record):,} weights in {len(tensors)} tensors")]
    kinds = list(dict.fromkeys(step.kind for step in record.steps))
    facts.append(("optimizer", ", ".join(kinds) or "none"))
    if record.schedules:
        facts.append(("schedulers", ", ".join(one.kind for one in record.schedules)))
    if record.passes:
        loaders = {one.loader for one in record.passes}
        facts.append(("loaders", f"{len(loaders)}, with {len(record.passes)} passes over them"))
    if record.worker:
        facts.append(("worker", f"{record.worker[0]} of {record.worker[1]}"))
    facts += list(record.environment.items())
    facts += [("noted", note) for note in record.notes]
    width = max(len(name) for name, _ in facts)
    return [f"  {name:<{width}}   {value}" for name, value in facts]


def _table(record: Trace) -> list[str]:
    rows = [("step", "batches", "loss", "learning rate", "weights after it")]
    numbers = range(len(record.steps))
    for number in numbers:
        if SHOWN_STEPS <= number < len(numbers) - SHOWN_STEPS:
            if number == SHOWN_STEPS:
                rows.append(("…",) * len(rows[0]))
            continue
        step, loss = record.steps[number], record.losses[number]
        sizes = " + ".join(str(call.size) for call in step.calls[:4]) or "not seen"
        rows.append(
            (
                f"{number + 1:,}",
                sizes + (" + …" if len(step.calls) > 4 else ""),
                "not seen" if isnan(loss) else f"{loss:.6g}",
                ", ".join(map(_number, step.learning_rates)),
                step.weight.hex()[:12],
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip()
            for row in rows]  # fmt: skip


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, (int, float)) else str(value)


def _line(error: Exception) -> str:
    """Return an error's message as one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {os.strerror(error.errno)}"
    return " ".join(str(error).split())
