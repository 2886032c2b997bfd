"""The catalogue: for each diagnosis a loop with that fault, and what the port doctor says of it."""

import ast
import difflib
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from html import escape

import torch

from course_utils.parity import Report, Trace, compare, diagnose, trace
from course_utils.parity.named import trace_named
from tools.project import ROOT
from tools.site.planted import PLANTED, Planted

PARITY = ROOT / "course_utils" / "parity"
NAMES = ("right", "broken")
# Found where no program on a CPU can be relied on to have them, or shown elsewhere: the page that
# tells of each, below `doctor/`.
ELSEWHERE = {
    "resumed without …": "resuming.md",
    "not repeatable": "loop.md",
    "not repeatable: an operation without a deterministic form": "loop.md",
}
INDEX = """\
# What the port doctor can name

Each page has a training loop with one fault in it, what one notices of it, what the doctor says,
and how to mend it. The programs were run, and the reports are what they printed. Where the records
show none of these, the doctor says what differs, in which layer and operation, and stops.

| you notice | the doctor says |
|---|---|
{rows}

See also, in the recipes: {elsewhere}.

```{{toctree}}
:hidden:

{contents}
```
"""
PAGE = """\
---
myst:
  html_meta:
    description: "{description}"
---

# {title}

> {symptom}

{shown}

## What the port doctor says

```text
{report}
```

## Why

{cause}

## How to mend it

{mend}

```python
from course_utils.parity import diagnose

print(diagnose(my_loop, my_port, model=Net))  # two functions that train
```

[How to use it on your own loops](../loop.md) · [Everything that it can name](index.md)
"""


def slug(name: str) -> str:
    """Return a diagnosis as the name of its page."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def report_of(planted: Planted) -> Report:
    """Run both programs of a planted fault and compare them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")  # some faults are warned of; that is not shown
            right, broken = map(_loaded, planted.programs)
            if planted.again:
                return compare(_run(right)(), _run(right)(), names=("first", "second"))
            if planted.traces:
                return compare(_traced(right), _traced(broken), names=NAMES)
            models = tuple(None if "NET" in names else "Net" for names in (right, broken))
            return diagnose(_run(right), _run(broken), names=NAMES, model=models)
    finally:
        torch.set_num_threads(before)


def _loaded(program: str) -> dict:
    names = {"__name__": "planted"}
    exec(compile(program, "planted.py", "exec"), names)
    return names


def _run(names: dict) -> Callable[[], object]:
    """Return a function that trains; a network of the whole program is traced by hand."""

    def run():
        with trace(names["NET"]) if "NET" in names else nullcontext() as record:
            names["train"]()
        return record

    return run


def _traced(names: dict) -> Trace:
    with trace_named("Net") as record:
        names["train"]()
    return record


def pages() -> Iterator[tuple[str, str]]:
    """Yield each page of the catalogue: its place in the site's source, and its text."""
    for planted in PLANTED:
        yield f"doctor/diagnoses/{slug(planted.name)}.md", _page(planted, report_of(planted))
    rows = [f"| {p.symptom} | [{p.name}]({slug(p.name)}.md) |" for p in PLANTED]
    others = ", ".join(f"[{name}](../{page})" for name, page in ELSEWHERE.items())
    contents = "\n".join(slug(planted.name) for planted in PLANTED)
    text = INDEX.format(rows="\n".join(rows), elsewhere=others, contents=contents)
    yield "doctor/diagnoses/index.md", text


def _page(planted: Planted, report: Report) -> str:
    found = report.diagnosis
    description = f"{planted.symptom} The port doctor names it: {planted.name}."
    return PAGE.format(
        title=found.name[:1].upper() + found.name[1:],
        description=escape(description),
        symptom=planted.symptom,
        shown=_shown(planted),
        report=report,
        cause=found.cause,
        mend=found.mend,
    )


def _shown(planted: Planted) -> str:
    """Return what the broken program does otherwise, or the program that is run twice."""
    right, broken = (program.splitlines() for program in planted.programs)
    if planted.again:
        code = "\n".join(right)
        return f"The same program, `train()` called twice:\n\n```python\n{code}\n```"
    lines = list(difflib.unified_diff(right, broken, n=len(right), lineterm=""))[3:]
    code = "\n".join(_from_train(lines))
    return f"The right loop, and what the broken one does in its place:\n\n```diff\n{code}\n```"


def _from_train(lines: list[str]) -> list[str]:
    """Leave out the lines before the first definition, unless one of them differs."""
    starts = ("class ", "def ", "-", "+")
    first = next(
        i for i, line in enumerate(lines) if line[:1] in "+-" or line[1:].startswith(starts)
    )
    return lines[first:]


def names_in_code() -> set[str]:
    """Return the name of every diagnosis in the doctor's source; `…` stands for what varies."""
    found = set()
    for path in sorted(PARITY.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Diagnosis":
                found |= set(_names(node.args[0]))
    return found


def _names(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values)


def not_shown() -> list[str]:
    """Return the diagnoses in the code that the catalogue has no page for."""
    shown = [*(planted.name for planted in PLANTED), *ELSEWHERE]
    return sorted(name for name in names_in_code() if not any(_fits(name, one) for one in shown))


def _fits(name: str, shown: str) -> bool:
    return bool(re.fullmatch(".+".join(map(re.escape, name.split("…"))), shown))
