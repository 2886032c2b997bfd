# %% [markdown]
# # Exercises 4. One flag at a time
#
# {{badge}}
#
# Five exercises for [lesson 4](../04_one_flag_at_a_time.ipynb), from easy to hard. Each one has a
# cell with gaps (`...`) for your answer, and a cell that checks it. A check says what is wrong and
# why; it changes nothing of yours, and you can run it as often as you like. `q1.hint()` gives a
# hint, a plainer one each time; `q1.solution()` shows an answer.

# %% tags=["setup"]
# {{setup}}

# %%
import lightning as L
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.exercises import QUIET, FewDigits, progress
from course_utils.exercises.lessons.lesson_04 import q1, q2, q3, q4, q5
from course_utils.models import MLP, LitMLP
from course_utils.session import start

session = start(42)

# %% tags=["grader"]
import copy
import tempfile
from pathlib import Path

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.exercises import (
    QUIET,
    FewDigits,
    Lines,
    Question,
    a_class,
    function,
    grade_port,
    number,
    right,
    wrong,
)
from course_utils.models import MLP, LitMLP

# %% [markdown]
# ## 1. Predict: steps and rates
#
# 1,000 digits in batches of 64 are trained with `L.Trainer(max_epochs=3,
# accumulate_grad_batches=6)`. The rate begins at 0.8, and
# `StepLR(optimizer, step_size=1, gamma=0.5)` halves it.
#
# - `steps`: how many steps does the optimizer take in all?
# - `by_epoch`: what is the rate of the last step, with `"interval": "epoch"`?
# - `by_step`: and with `"interval": "step"`?

# %% tags=["grader"]
STEPS = {
    6: "an epoch has 16 batches: 6, 6 and a rest of 4, and the rest gets a step too",
    8: "epochs are not joined: the rest at the end of each gets a step of its own",
    3: "that is one epoch",
    48: "that is a step for each batch: gradients of 6 batches are added up first",
    18: "it is 6 batches a step, and not 6 steps an epoch",
}
BY_EPOCH = {
    0.1: "after the third epoch it is halved again, but no step follows",
    0.8: "it has been halved after the first epoch, and after the second",
    0.4: "there were two whole epochs before the last one",
}
BY_STEP = {
    0.8 * 0.5**9: "the schedule moves after a step: before the ninth it has moved eight times",
    0.8 * 0.5**47: "the schedule moves with the optimizer's steps, not with the batches",
    0.8 * 0.5**48: "the schedule moves with the optimizer's steps, not with the batches",
    0.2: "that is the rate by epochs",
}


def _predicted(steps, by_epoch, by_step):
    for said, name, true, usual, rule, place in (
        (steps, "steps", 9, STEPS, "how many steps make one epoch of 16 batches?", ""),
        (by_epoch, "by_epoch", 0.2, BY_EPOCH, "how many epochs are over by then?", EPOCHS),
        (by_step, "by_step", 0.8 * 0.5**8, BY_STEP, "how many steps were taken by then?", EACH),
    ):
        given = number(said, name)
        if not abs(given - true) <= 1e-6 * true:  # so that NaN is wrong, too
            near = (reason for value, reason in usual.items() if abs(given - value) < 1e-6 * value)
            return wrong(f"`{name}` is not {given:g}: {next(near, rule)}.", place)
    return right("9 steps; 0.2 by epochs, 0.003125 by steps.")


EPOCHS = "section 2, a schedule, epoch by epoch"
EACH = "section 2, a schedule, step by step"
q1 = Question(
    number=1,
    kind="predict",
    title="Steps and rates",
    lesson="04_one_flag_at_a_time",
    place="section 2, accumulating gradients",
    expects="three numbers",
    hints=(
        "1,000 digits make 16 batches an epoch. No epoch hands batches on to the next.",
        "Three steps an epoch: after batches 6, 12 and 16. The rate of a step is that which the "
        "schedule left before it.",
        "9 steps; 0.8 halved twice, and 0.8 halved eight times.",
    ),
    takeaway="Accumulation changes the number of steps, and with it whatever counts in steps: "
    "schedules, `max_steps`, the names of checkpoints.",
    checker=_predicted,
)

# %%
steps = ...
by_epoch = ...
by_step = ...
### BEGIN SOLUTION
steps = 3 * 3  # after batches 6, 12 and 16 of each epoch
by_epoch = 0.8 * 0.5**2
by_step = 0.8 * 0.5**8
### END SOLUTION

# %%
q1.check(steps, by_epoch, by_step)
# q1.hint()
# q1.solution()

# %% [markdown]
# ## 2. Fill in: uneven accumulation
#
# Now the other way round: the port is given, and its loop is asked for. There are six batches in
# an epoch, and the gradients of four are added up. What becomes of the two that are left?

# %% tags=["given"]


def by_trainer(data):
    trainer = L.Trainer(max_epochs=2, accumulate_grad_batches=4, **QUIET)
    trainer.fit(LitMLP(hidden=(32,)), data.train_dataloader())


# %% [markdown]
# Fill in the loop, so that it takes the same steps as the Trainer. The doctor compares them.

# %% tags=["grader"]
TAKEN = {
    2: "the two batches that are left at the end of each epoch get no step in yours",
    3: "your count goes on from one epoch to the next; the Trainer ends each epoch with a step",
    12: "yours takes a step for each batch",
}


def _uneven(accumulate):
    outcome = grade_port(
        by_trainer,
        function(accumulate, "accumulate"),
        MLP,
        lambda: FewDigits(train=350),
        names=("the Trainer", "your loop"),
        by_trainer=False,
    )
    if outcome:
        return outcome
    taken = outcome.report.steps[1]
    if taken != 4:
        more = TAKEN.get(taken, "in each epoch one is due after four batches, and one at its end")
        return wrong(f"The Trainer takes 4 steps, your loop {taken}: {more}.", "", outcome.report)
    return wrong(
        "Your loop takes 4 steps, as the Trainer does, but not the same ones. Is each loss divided "
        "by 4 (the Trainer does so with the last two as well), and are the gradients cleared after "
        "each step, and only then?",
        "",
        outcome.report,
    )


q2 = Question(
    number=2,
    kind="fill in",
    title="Uneven accumulation",
    lesson="04_one_flag_at_a_time",
    place="section 2, accumulating gradients",
    expects="the function `accumulate`",
    hints=(
        "The lesson's `accumulate` is nearly it. Run it in your mind through an epoch of six.",
        "The last batch of an epoch is that with `index == len(loader)`: a step is due there, too.",
        "Each loss is divided by 4, whatever the number of batches that go into a step.",
    ),
    takeaway="The Trainer drops no batch: an epoch ends with a step. It is a smaller one, as the "
    "losses are divided by 4 all the same.",
    checker=_uneven,
)


# %%
def accumulate(data):
    model = MLP(hidden=(32,))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = data.train_dataloader()
    for _ in range(2):
        for index, (x, y) in enumerate(loader, start=1):
            loss = F.cross_entropy(model(x), y)
            ...  # gradients of every batch, a step now and then
            ### BEGIN SOLUTION
            (loss / 4).backward()
            if index % 4 == 0 or index == len(loader):
                optimizer.step()
                optimizer.zero_grad()
            ### END SOLUTION


# %%
q2.check(accumulate)
# q2.hint()
# q2.solution()

# %% [markdown]
# ## 3. Lines in order: noise, limit, box
#
# This loop adds noise to the gradient, limits its length, and keeps each weight between -0.1 and
# 0.1 after the step:

# %% tags=["given"]


def train_in_a_box(data):
    model = MLP(hidden=(32,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for x, y in data.train_dataloader():
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        for weight in model.parameters():
            weight.grad += 0.01 * torch.randn_like(weight)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        for weight in model.parameters():
            weight.data.clamp_(-0.1, 0.1)


# %% [markdown]
# Its lines, as the port has them. Place each: in a hook, or with the `Trainer`, if that does it by
# itself or by a flag. (The check sets the flags that are needed.)

# %% tags=["grader"]
HOMES = {
    "a": ("on_train_batch_end", "the weights leave the box in the step, so they are put back "
    "after it"),
    "b": ("Trainer", "that is a flag: `gradient_clip_val=1.0`"),
    "c": ("training_step", "`training_step` returns the loss of its batch"),
    "d": ("on_before_optimizer_step", "noise is added to a gradient that is complete, before the "
    "limit and the step"),
    "e": ("Trainer", "the Trainer calls `backward` on the loss that it is given"),
    "f": ("configure_optimizers", "this is what `configure_optimizers` returns"),
    "g": ("Trainer", "the Trainer lets the optimizer step"),
    "h": ("training_step", "a batch reaches you as the argument of `training_step`"),
}  # fmt: skip
LINES = Lines(
    shown=(
        "for weight in self.parameters(): weight.data.clamp_(-0.1, 0.1)",
        "nn.utils.clip_grad_norm_(self.parameters(), 1.0)",
        "return F.cross_entropy(self.model(x), y)",
        "for weight in self.parameters(): weight.grad += 0.01 * torch.randn_like(weight)",
        "loss.backward()",
        "return torch.optim.SGD(self.parameters(), lr=0.5)",
        "optimizer.step()",
        "x, y = batch",
    ),
    template="""\
class Boxed(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = MLP(hidden=(32,))

    def configure_optimizers(self):
        {configure_optimizers}

    def on_train_batch_start(self, batch, batch_idx):
        {on_train_batch_start}

    def training_step(self, batch, batch_idx):
        {training_step}

    def on_before_optimizer_step(self, optimizer):
        {on_before_optimizer_step}

    def on_train_batch_end(self, outputs, batch, batch_idx):
        {on_train_batch_end}
""",
    beside=("Trainer",),
)


def _fit(kind, data, **flags):
    L.Trainer(**{**QUIET, "max_epochs": 1, **flags}).fit(kind(), data.train_dataloader())


def _in_order(placed):
    placed = LINES.read(placed)
    strays = [x for x, (home, _) in HOMES.items() if x not in placed[home]]
    flags = {"gradient_clip_val": 1.0} if "b" in placed["Trainer"] else {}
    try:
        kind = LINES.run(placed, {"L": L, "torch": torch, "nn": nn, "F": F, "MLP": MLP})["Boxed"]
        outcome = grade_port(train_in_a_box, lambda data: _fit(kind, data, **flags), MLP)
    except Exception:
        if not strays:
            raise
        outcome = None
    if outcome or not strays:
        return outcome
    letter = strays[0]
    place = next(place for place, letters in placed.items() if letter in letters)
    more = f" ({len(strays)} lines are not in their place yet.)" if len(strays) > 1 else ""
    reason = f"`{letter}`, `{LINES.rows[letter]}`, is not for `{place}`: {HOMES[letter][1]}"
    return wrong(f"{reason}.{more}")


q3 = Question(
    number=3,
    kind="lines in order",
    title="Noise, limit, box",
    lesson="04_one_flag_at_a_time",
    place="section 5, hooks of your own",
    expects="a dictionary from place to letters",
    hints=(
        "Which of these lines has a flag? Which does the Trainer run anyway?",
        "`on_before_optimizer_step` is called when the gradient is complete and not yet clipped; "
        "`on_train_batch_end` when the step is done.",
        "`b`, `e` and `g` are the Trainer's; `d` comes before the step, `a` after it.",
    ),
    takeaway="A hook is a moment: between gradient and limit, after the step. Find the moment, and "
    "the line has its place.",
    checker=_in_order,
    ordered=LINES,
)

# %%
lines = q3.lines()
lines

# %%
placed = {
    "configure_optimizers": ...,
    "on_train_batch_start": ...,
    "training_step": ...,
    "on_before_optimizer_step": ...,
    "on_train_batch_end": ...,
    "Trainer": ...,
}
### BEGIN SOLUTION
placed = {
    "configure_optimizers": "f",
    "on_train_batch_start": "",
    "training_step": "hc",
    "on_before_optimizer_step": "d",
    "on_train_batch_end": "a",
    "Trainer": "ebg",
}
### END SOLUTION

# %%
q3.check(placed)
# q3.hint()
# q3.solution()

# %% [markdown]
# ## 4. Port: values, a warm-up, a stop
#
# This loop limits each value of the gradient, warms the rate up over six steps, and ends, also in
# the middle of an epoch, once the loss of a batch falls below 1.2.

# %% tags=["given"]


def train_until(data):
    model = MLP(hidden=(32,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=6)
    loader = data.train_dataloader()
    for _ in range(5):
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_value_(model.parameters(), 0.01)
            optimizer.step()
            schedule.step()
            if loss < 1.2:
                return


# %% [markdown]
# Port it: a LightningModule, and the arguments of the `Trainer`. Nothing is given but the names.
# (To end training, set `trainer.should_stop = True`; in a module, the Trainer is `self.trainer`.)

# %% tags=["grader"]
OWN = {
    "other learning rate": EACH,
    "scheduler per step in one, not in the other": EACH,
    "scheduler per step in one, per epoch in the other": f"{EACH}: its interval",
    "other optimizer settings": "section 1, the optimizer",
    "other update": "section 1, the optimizer",
    "one run is shorter": "section 3, stopped by hand: a hook after each batch",
    "clipping in one": "section 2, clipping, and the flag `gradient_clip_val`",
    "other loss or gradient": "section 2, clipping: the length, or single values",
}


def _own(port, flags):
    lit = a_class(port, "LitOwn", L.LightningModule)
    if not isinstance(flags, dict):
        return wrong('`flags` should be a dictionary, as in `{"max_epochs": 1}`.')
    if not {"max_epochs", "max_steps"} & flags.keys():
        return wrong("`flags` says nothing of how long to train: the loop makes 5 epochs at most.")
    outcome = grade_port(
        train_until, lambda data: _fit(lit, data, **copy.deepcopy(flags)), MLP, places=OWN
    )
    if outcome or outcome.report is None or outcome.report.diagnosis.name != "one run is shorter":
        return outcome
    loop, port = outcome.report.steps
    late = "goes on to step" if port > loop else "stops at step"
    return wrong(
        f"All steps that both have are the same. But the loop ends with step {loop}, when the loss "
        f"is below 1.2 for the first time, and your port {late} {port}. An epoch has 4 steps here.",
        OWN["one run is shorter"],
        outcome.report,
    )


q4 = Question(
    number=4,
    kind="port",
    title="Values, a warm-up, a stop",
    lesson="04_one_flag_at_a_time",
    place="sections 2 and 5",
    expects="the class `LitOwn` and a dictionary of flags",
    hints=(
        "The limit is two flags, the warm-up belongs to `configure_optimizers`, and the stop needs "
        "a hook that knows the loss of its batch.",
        '`gradient_clip_algorithm="value"`; a dictionary with `"interval": "step"`, as in `Cycle`; '
        "and `on_train_batch_end`.",
        'In `on_train_batch_end`, `outputs["loss"]` is the loss of the batch: if it is below 1.2, '
        "set `self.trainer.should_stop = True`.",
    ),
    takeaway="Flag, return value or hook: each line of a loop has one of these places.",
    checker=_own,
)

# %%
LitOwn = ...  # a LightningModule: write the class
### BEGIN SOLUTION


class LitOwn(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = MLP(hidden=(32,))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.model(x), y)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=5e-3)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=6)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if outputs["loss"] < 1.2:
            self.trainer.should_stop = True


### END SOLUTION

# %%
flags = ...  # a dictionary of the Trainer's arguments
### BEGIN SOLUTION
flags = {"max_epochs": 5, "gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}
### END SOLUTION

# %%
q4.check(LitOwn, flags)
# q4.hint()
# q4.solution()

# %% [markdown]
# ## 5. Break and mend: an average with a gap in its memory
#
# This callback keeps the mean of the weights over all steps of a run.

# %% tags=["given"]


class Average(L.Callback):
    def on_train_start(self, trainer, pl_module):
        self.count = 0
        self.mean = [torch.zeros_like(weight) for weight in pl_module.parameters()]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.count += 1
        for mean, weight in zip(self.mean, pl_module.parameters(), strict=True):
            mean.add_((weight.detach() - mean) / self.count)


# %% tags=["given"]
def averaged(kind, folder, stops):
    """Train for as many epochs as each of `stops` says, each time from the file of the last."""
    data, path = FewDigits(val=200), None
    for stop in stops:
        L.seed_everything(1, verbose=False)
        average = kind()
        trainer = L.Trainer(max_epochs=stop, callbacks=[average], limit_val_batches=0, **QUIET)
        digits = [data.val_dataloader()] * 2  # to train on, and to validate on: with none of them
        trainer.fit(LitMLP(hidden=(16,)), *digits, ckpt_path=path, weights_only=True)
        path = folder / f"epoch_{stop}.ckpt"
        trainer.save_checkpoint(path)
    return average


# %% [markdown]
# Four epochs at a time, or two and, from the file, two more: the weights are the same. The average
# is not:


# %% tags=["shows"]
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory() as folder:
    whole, resumed = (averaged(Average, Path(folder), stops) for stops in ([4], [2, 4]))
print("steps averaged:", whole.count, "and", resumed.count)
print("first weight:", whole.mean[0][0, 0].item(), "and", resumed.mean[0][0, 0].item())

# %% [markdown]
# Mend it: `Mended` has what you change. When does the Trainer call which of these hooks?

# %% tags=["grader"]


def _same(run, other):
    """Return whether two averages are equal, as far as they are there at all."""
    a, b = (getattr(x, "mean", ()) for x in (run, other))
    pairs = list(zip(a, b, strict=len(a) == len(b)))
    return bool(pairs) and all(torch.equal(*pair) for pair in pairs)


def _mended(mended):
    kind = a_class(mended, "Mended", L.Callback)
    with tempfile.TemporaryDirectory() as name:
        whole, plain = (averaged(which, Path(name), [4]) for which in (kind, Average))
        if getattr(whole, "count", None) != plain.count or not _same(whole, plain):
            return wrong(
                f"Already without an interruption the average is another one: {plain.count} steps "
                f"are averaged, and yours says {getattr(whole, 'count', 'nothing')}. Where nothing "
                "was loaded, begin as `Average` does."
            )
        resumed = averaged(kind, Path(name), [2, 4])
        kept = torch.load(Path(name) / "epoch_2.ckpt", weights_only=True)["callbacks"]
    if resumed.count == plain.count and _same(resumed, plain):
        return right(f"With the interruption or without: {plain.count} steps are averaged.")
    counts = f"After resuming, {resumed.count} steps are averaged in place of {plain.count}"
    if not kept:
        return wrong(f"{counts}: the file holds nothing of your callback. What does `state_dict` "
                     "return?")  # fmt: skip
    if resumed.count == plain.count:
        return wrong("After resuming the count is right, but the mean is another one: does it go "
                     "into the file, and come back from it?")  # fmt: skip
    state = next(iter(kept.values()))
    held = ", ".join(f"`{key}`" for key in state) if isinstance(state, dict) else "no dictionary"
    return wrong(
        f"{counts}. The file has something of your callback ({held}). Does `load_state_dict` put "
        "it on `self`? It is called before `on_train_start`: is that where it is lost again?"
    )


q5 = Question(
    number=5,
    kind="break and mend",
    title="An average with a gap in its memory",
    lesson="04_one_flag_at_a_time",
    place="section 3, the same with Lightning: `KeepRandom`",
    expects="the class `Mended`",
    hints=(
        "What a callback holds goes into a checkpoint only if its `state_dict` returns it.",
        "`load_state_dict` gets what `state_dict` returned. The Trainer calls it first, and "
        "`on_train_start` after it, which then sets the average to zero.",
        'In `on_train_start`, begin anew only `if not hasattr(self, "mean")`.',
    ),
    takeaway="Whatever a callback remembers is a part of the run: save it, load it, and begin anew "
    "only where nothing was loaded.",
    checker=_mended,
)


# %%
class Mended(Average):
    def on_train_start(self, trainer, pl_module):
        ...  # on_train_start
        ### BEGIN SOLUTION
        if not hasattr(self, "mean"):  # nothing was loaded
            super().on_train_start(trainer, pl_module)
        ### END SOLUTION

    def state_dict(self):
        ...  # state_dict: what goes into the file
        ### BEGIN SOLUTION
        return {"count": self.count, "mean": self.mean}
        ### END SOLUTION

    def load_state_dict(self, state_dict):
        ...  # load_state_dict: what comes back from it
        ### BEGIN SOLUTION
        self.count, self.mean = state_dict["count"], state_dict["mean"]
        ### END SOLUTION


# %%
q5.check(Mended)
# q5.hint()
# q5.solution()

# %% [markdown]
# ## What is solved
#
# Kept in `progress.json` beside the notebooks; deleting it harms nothing.

# %% tags=["learner"]
progress()
