"""What each line of a training program is for, read off its syntax tree."""

import ast
import io
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Job:
    """One kind of work that a line does: its name, a mark of four letters, and a tint."""

    name: str
    mark: str
    tint: str  # one of `TINTS` in `parity.looks`


# The mark says the same without colour.
IDEA = Job("model and loss", "IDEA", "strong")
DATA = Job("data movement", "DATA", "blue")
MODE = Job("mode switching", "MODE", "pink")
GRAD = Job("gradient", "GRAD", "orange")
STEP = Job("update", "STEP", "yellow")
BOOK = Job("bookkeeping", "BOOK", "grey")
LOGS = Job("logging", "LOGS", "green")
JOBS = (IDEA, DATA, MODE, GRAD, STEP, LOGS, BOOK)


@dataclass(frozen=True)
class Home:
    """What takes a line over in Lightning, and the name that has to be in the port for it.

    Without a `name` the Trainer does it by itself. A `flag` is looked for only in ports that show
    their Trainer.
    """

    text: str
    name: str = ""
    flag: bool = False


AUTOMATIC = Home("Trainer, by itself")
OPTIMIZERS = Home("configure_optimizers", "configure_optimizers")
SELF_LOG = Home("self.log", "log")
AVERAGE = Home("self.log averages", "log")
EPOCHS = Home("Trainer(max_epochs=…)", "max_epochs", flag=True)
DEVICE = Home("Trainer(accelerator=…)", "accelerator", flag=True)
CLIPPING = Home("Trainer(gradient_clip_val=…)", "gradient_clip_val", flag=True)
PRECISION = Home("Trainer(precision=…)", "precision", flag=True)
STOPPING = Home("EarlyStopping", "EarlyStopping", flag=True)
HYPERPARAMETERS = Home("save_hyperparameters", "save_hyperparameters")
CHECKPOINT = Home("ModelCheckpoint", "ModelCheckpoint", flag=True)
DATAMODULE = Home("LightningDataModule")
TRAINING_STEP = Home("training_step", "training_step")
VALIDATION_STEP = Home("validation_step", "validation_step")
MODULE = Home("LightningModule")
NOWHERE = Home("")

_OPTIM = {name for name, value in vars(torch.optim).items() if isinstance(value, type)}
_SCHEDULERS = {
    name for name, value in vars(torch.optim.lr_scheduler).items() if isinstance(value, type)
}

# Names that are called, and the job and home of a line that calls them. Earlier rows win.
Rows = tuple[tuple[set[str], Job, Home], ...]
CALLS: Rows = (
    ({"Trainer", "Fabric", "fit", "seed_everything", "manual_seed"}, BOOK, AUTOMATIC),
    ({"ArgumentParser", "add_argument", "parse_args", "error"}, BOOK, HYPERPARAMETERS),
    ({"clip_grad_norm_", "clip_grad_value_"}, GRAD, CLIPPING),
    ({"autocast", "GradScaler"}, MODE, PRECISION),
    ({"backward", "zero_grad"}, GRAD, AUTOMATIC),
    ({"step"}, STEP, AUTOMATIC),
    (_OPTIM | _SCHEDULERS, STEP, OPTIMIZERS),
    ({"no_grad", "inference_mode", "enable_grad", "set_grad_enabled"}, MODE, AUTOMATIC),
    ({"print", "log", "log_dict", "info", "writerow"}, LOGS, SELF_LOG),
    ({"add_figure", "add_image", "add_images", "add_scalar"}, LOGS, SELF_LOG),
    ({"CSVLogger", "SummaryWriter", "TensorBoardLogger"}, LOGS, SELF_LOG),
    ({"save", "load_state_dict", "state_dict", "deepcopy"}, BOOK, CHECKPOINT),
    ({"DataLoader", "random_split", "Subset", "Compose"}, DATA, DATAMODULE),
    ({"append", "extend"}, LOGS, SELF_LOG),
    ({"close", "flush", "fromarray", "open", "writer"}, LOGS, SELF_LOG),
    ({"Path", "mkdir"}, BOOK, AUTOMATIC),
    ({"argmax", "item"}, BOOK, AVERAGE),
    ({"cuda", "cpu", "device", "to"}, DATA, DEVICE),
)
MODES = {"train", "eval"}
# Calls that compute nothing of the model: a line with no other calls is bookkeeping.
PLAIN = {
    *("bool", "dict", "enumerate", "float", "int", "len", "list", "max", "min", "range"),
    *("round", "set", "sum", "tuple", "zip", "time", "perf_counter"),
    *("detach", "full", "isfinite", "isnan", "tensor", "zero_", "zeros"),  # sums kept as tensors
    "Generator",
    *("super", "__init__", "save_hyperparameters"),
}

# Methods that a program defines for others to call, so that a call of them is not its own.
HOOKS = {"forward", "training_step", "validation_step", "test_step", "predict_step", "__init__"}


@dataclass(frozen=True)
class Tagged:
    """One line of a program: its text, its job and its home (no job: an empty row)."""

    text: str
    job: Job | None = None
    home: Home = NOWHERE


def tag(source: str, known: Mapping[str, Iterable[str]] | None = None) -> list[Tagged]:
    """Return the lines of a program with their jobs and homes; the syntax tree decides.

    `known` gives the names of a program's own functions for jobs, as `{"data movement": ["crop"]}`.
    Blank lines, comments and docstrings are left out. Raises SyntaxError for what is not Python,
    and ValueError for a job that is none.
    """
    calls = (*_rows_of(known or {}), *CALLS)
    lines = source.splitlines()
    found: dict[int, tuple[Job, Home]] = {}
    tree = ast.parse(source)
    data = _data_lines(tree)
    own = {node.name for node in ast.walk(tree) if isinstance(node, FUNCTIONS)} - HOOKS
    losses = _losses(tree)
    for statement, function in _statements(tree, None):
        verdict = data.get(statement.lineno) or _of(statement, function, own, calls)
        if verdict == (BOOK, AVERAGE) and losses & _targets(statement):
            verdict = IDEA, TRAINING_STEP
        found |= dict.fromkeys(range(statement.lineno, _header_end(statement) + 1), verdict)
        for decorator in getattr(statement, "decorator_list", []):
            found[decorator.lineno] = _of_calls(ast.Expr(decorator), function, own, calls)
    skipped = _docstring_lines(tree)
    comments = _comments(source)
    code = [line[: comments.get(number)].rstrip() for number, line in enumerate(lines, 1)]
    return [
        Tagged(line, *found.get(number, (BOOK, NOWHERE)))
        for number, line in enumerate(code, 1)
        if line and number not in skipped
    ]


def _rows_of(known: Mapping[str, Iterable[str]]) -> Rows:
    """Return names and jobs as rows for `CALLS`; what moves data goes to the data module."""
    jobs = {job.name: job for job in JOBS}
    if unknown := set(known) - set(jobs):
        raise ValueError(f"No job is called {unknown.pop()!r}: the jobs are {', '.join(jobs)}.")
    homes = {DATA: DATAMODULE, IDEA: TRAINING_STEP, LOGS: SELF_LOG}
    rows = ((set(names), jobs[job]) for job, names in known.items())
    return tuple((names, job, homes.get(job, AUTOMATIC)) for names, job in rows)


def _losses(tree: ast.AST) -> set[str]:
    """Return the names of what `backward()` is called on, and of what these are made of."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    called = [call.func.value for call in calls if _name(call) == "backward" and not call.args]
    found = {node.id for node in called if isinstance(node, ast.Name)}
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    before = None
    while before != len(found):
        before = len(found)
        for node in assigned:
            if found & _targets(node):
                found |= {name.id for name in ast.walk(node.value) if isinstance(name, ast.Name)}
    return found


def _targets(statement: ast.stmt) -> set[str]:
    """Return the names that a statement assigns to."""
    targets = getattr(statement, "targets", ())
    return {target.id for target in targets if isinstance(target, ast.Name)}


def names_in(source: str) -> set[str]:
    """Return every name that a program uses or defines, keyword arguments included."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        for attribute in ("id", "attr", "arg", "name"):
            value = getattr(node, attribute, None)
            if isinstance(value, str):
                names.add(value.split(".")[-1])
    return names


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef | None


def _statements(node: ast.AST, function: Function) -> Iterator[tuple[ast.stmt, Function]]:
    """Yield every statement below a node, each with the function that it stands in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child, function
        inner = child if isinstance(child, FUNCTIONS) else function
        yield from _statements(child, inner)


def _of(statement: ast.stmt, function: Function, own: set[str], known: Rows) -> tuple[Job, Home]:
    """Return job and home of one statement (of a compound one, of its header)."""
    if isinstance(statement, FUNCTIONS):
        return BOOK, AUTOMATIC
    if isinstance(statement, ast.ClassDef):
        return BOOK, MODULE
    if isinstance(statement, ast.For | ast.AsyncFor | ast.While):
        return BOOK, _loop_home(statement)
    if isinstance(statement, ast.Break):
        return BOOK, STOPPING
    if isinstance(statement, ast.Return) and not _calls(statement):
        return BOOK, AVERAGE
    return _of_calls(statement, function, own, known)


def _of_calls(
    statement: ast.stmt, function: Function, own: set[str], known: Rows
) -> tuple[Job, Home]:
    calls = _calls(statement)
    names = [_name(call) for call in calls]
    if any(_switches_mode(call) for call in calls):
        return MODE, AUTOMATIC
    for called, job, home in known:
        if called & set(names):
            return job, _step_home(calls) if called == {"step"} else home
    if not set(names) - PLAIN and (keeper := _keeper(statement)):
        return BOOK, keeper
    if isinstance(statement, ast.AugAssign):
        return BOOK, AVERAGE
    if any("acc" in name.lower() or "metric" in name.lower() for name in names):
        return LOGS, AVERAGE
    if own & set(names):
        return BOOK, AUTOMATIC
    if set(names) - PLAIN:
        return IDEA, VALIDATION_STEP if _evaluates(function) else TRAINING_STEP
    if _unpacks_batch(statement):
        return DATA, AUTOMATIC
    if isinstance(statement, ast.Assign):
        # A history that values are appended to, or a number that they are added to.
        return BOOK, SELF_LOG if isinstance(statement.value, ast.List | ast.Dict) else AVERAGE
    return BOOK, NOWHERE


def _keeper(statement: ast.stmt) -> Home | None:
    """Return what keeps the best epoch, or counts those without a better one, if a line does."""
    if not isinstance(statement, ast.Assign | ast.AugAssign):
        return None
    stored = (n for n in ast.walk(statement) if isinstance(n, ast.Name))
    names = [node.id for node in stored if isinstance(node.ctx, ast.Store)]
    if any(name.startswith("best") for name in names):
        return CHECKPOINT
    return STOPPING if any(name.startswith(("wait", "patience")) for name in names) else None


def _calls(statement: ast.stmt) -> list[ast.Call]:
    """Return the calls of a statement, without those of the statements inside it."""
    found, waiting = [], [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call):
            found.append(node)
        waiting += [c for c in ast.iter_child_nodes(node) if not isinstance(c, ast.stmt)]
    return found


def _name(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _switches_mode(call: ast.Call) -> bool:
    """Return whether a call is `model.train()` or `model.eval()`, not a function named so."""
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr in MODES
        and not call.keywords
        and all(isinstance(argument, ast.Constant) for argument in call.args)
    )


def _step_home(calls: list[ast.Call]) -> Home:
    for call in calls:
        owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        if _name(call) == "step" and "sched" in owner.lower():
            return OPTIMIZERS
    return AUTOMATIC


def _loop_home(loop: ast.stmt) -> Home:
    if not isinstance(loop, ast.For):
        return AUTOMATIC
    header = f"{ast.unparse(loop.target)} {ast.unparse(loop.iter)}".lower()
    return EPOCHS if "epoch" in header else AUTOMATIC


def _evaluates(function: Function) -> bool:
    """Return whether a function switches gradients or training off: it validates or tests."""
    if function is None:
        return False
    if function.name.startswith(("val", "test", "eval")):
        return True
    names = {_name(node) for node in ast.walk(function) if isinstance(node, ast.Call)}
    return bool(names & {"no_grad", "inference_mode"}) and "backward" not in names


def _unpacks_batch(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Tuple)
        and isinstance(statement.value, ast.Name)
    )


def _header_end(statement: ast.stmt) -> int:
    """Return the last line of a statement, or of its header if statements stand inside it."""
    body = getattr(statement, "body", None)
    if not body:
        return statement.end_lineno
    decorators = getattr(body[0], "decorator_list", [])
    first = min([body[0].lineno, *(decorator.lineno for decorator in decorators)])
    return max(statement.lineno, first - 1)


def _comments(source: str) -> dict[int, int]:
    """Return the column at which the comment of a line starts, for each line that has one."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.start[1] for t in tokens if t.type == tokenize.COMMENT}


def _data_lines(tree: ast.AST) -> dict[int, tuple[Job, Home]]:
    """Return the lines of functions that build loaders and of data modules: all move data."""
    lines: dict[int, tuple[Job, Home]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            builds = any(ast.unparse(base).endswith("DataModule") for base in node.bases)
        elif isinstance(node, FUNCTIONS):
            names = {_name(call) for call in ast.walk(node) if isinstance(call, ast.Call)}
            builds = "DataLoader" in names and "backward" not in names
        else:
            continue
        if builds:
            lines |= dict.fromkeys(range(node.lineno, node.end_lineno + 1), (DATA, DATAMODULE))
    return lines


def _docstring_lines(tree: ast.AST) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text and isinstance(node.value.value, str):
            lines |= set(range(node.lineno, node.end_lineno + 1))
    return lines
