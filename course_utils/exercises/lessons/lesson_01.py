"""The questions of lesson 1. Built from exercises/01_mlp.py: never edit."""

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from course_utils.digits import keep_batch
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
    values,
    wrong,
)
from course_utils.models import MLP

PARAMETERS = {
    784 * 64 + 64 * 10: "the weights are all there, and each layer has biases too, one an output",
    784 * 64 + 64: "that is the first layer; the layer that gives the ten logits counts too",
    784 * 64 + 64 + 64 * 10: "the last layer has ten biases as well",
    28 * 64 + 64 + 64 * 10 + 10: "`Flatten` lays all 28 x 28 pixels in one row, so the first layer "
    "has 784 inputs, not 28",
    235_146: "that is the lesson's network, with hidden layers of 128 and 256",
}
STEPS = {
    75: "the last batch of an epoch is smaller, and it gets a step too",
    16: "that is one epoch",
    15: "that is the full batches of one epoch: the smaller last one gets a step, and there are 5 "
    "epochs",
    78: "the epochs are not joined: each ends with a smaller batch of its own",
    79: "the epochs are not joined: each ends with a smaller batch of its own",
    1000: "a step is taken for each batch, not for each digit",
    5000: "a step is taken for each batch, not for each digit",
}


def _predicted(parameters, steps):
    said = number(parameters, "parameters")
    true = sum(weight.numel() for weight in MLP(hidden=(64,)).parameters())
    if said != true:
        usual = PARAMETERS.get(said, "the first layer alone has 784 · 64 + 64 = 50,240")
        side = "few" if said < true else "many"
        return wrong(f"{said:,} parameters are too {side}: {usual}.")
    said = number(steps, "steps")
    if said != 80:
        usual = STEPS.get(said, "how many batches make one epoch? The last may be smaller")
        side = "few" if said < 80 else "many"
        return wrong(f"{said:,} steps are too {side}: {usual}.", "section 2")
    return right("50,890 parameters, 80 steps.")


q1 = Question(
    number=1,
    kind="predict",
    title="How many numbers, how many steps?",
    lesson="01_mlp",
    place="section 3, where the parameters are counted",
    expects="two numbers",
    hints=(
        "A linear layer has a weight for each pair of input and output, and a bias for each "
        "output.",
        "The layers are 784 → 64 and 64 → 10. For the steps: 1,000 = 15 · 64 + 40.",
        "(784 · 64 + 64) + (64 · 10 + 10) parameters; 16 batches an epoch.",
    ),
    takeaway="Nearly all parameters sit between the pixels and the first hidden layer; and the "
    "number of steps, not of epochs, is what the optimizer sees.",
    checker=_predicted,
)


def _nearest_mean(data):
    """Return a network that compares a digit with the mean of each kind, behind some dropout."""
    x, y = (torch.cat(parts) for parts in zip(*data.train_dataloader(), strict=True))
    means = torch.stack([x[y == digit].flatten(1).mean(0) for digit in range(10)])
    layer = nn.Linear(784, 10)
    with torch.no_grad():
        layer.weight.copy_(means)
        layer.bias.copy_(-means.square().sum(1) / 2)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), layer)


def _usual_shares(guesses, y, sizes):
    """Return what the usual mistakes give, each with its sentence."""
    hits, seen = (torch.bincount(d, minlength=10).double() for d in (y[guesses == y], y))
    taken = torch.bincount(guesses, minlength=10)
    parts = zip(guesses.split(sizes), y.split(sizes), strict=True)
    shares = [
        torch.bincount(b[a == b], minlength=10) / torch.bincount(b, minlength=10) for a, b in parts
    ]
    return [
        (hits / len(y), "they add up to the share of right answers among all digits: divide the "
         "right answers of a digit by how many of that digit there are, not by all"),
        (hits / taken, "you divide by how often the model says a digit; the question is how many "
         "of the digits that are one it finds: divide by the labels' counts"),
        (1 - hits / seen, "they are the shares that are wrong: the right ones were asked for"),
        (hits, "they are counts: divide each by how many of that digit there are"),
        (shares[-1], "they are those of the last batch alone: the counts begin anew in each batch"),
        (torch.stack(shares).mean(0), "they are means over the batches, where a small batch weighs "
         "as much as a full one: count over all batches, and divide once at the end"),
    ]  # fmt: skip


def _by_digit(accuracy_by_digit):
    ask = function(accuracy_by_digit, "accuracy_by_digit")
    data = FewDigits(train=300, val=150)
    model, modes = _nearest_mean(data), []
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    said = values(ask(model, data.val_dataloader()), "accuracy_by_digit", (10,))
    batches = list(data.val_dataloader())
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    if not modes:
        return wrong("The model is never called: the guesses come from its logits.")
    if any(modes):
        return wrong(
            f"The model is in training mode in {sum(modes)} of {len(modes)} calls, so its dropout "
            "changes the answers at random: `model.eval()` comes first."
        )
    guesses = model.eval()(x).argmax(1)
    true = torch.bincount(y[guesses == y], minlength=10).double() / torch.bincount(y, minlength=10)
    if torch.allclose(said, true, atol=1e-6):
        return right()
    numbers = f"On 150 digits your first shares are {said[0]:.2f}, {said[1]:.2f}, {said[2]:.2f}"
    for usual, reason in _usual_shares(guesses, y, [len(b) for _, b in batches]):
        if torch.allclose(said, usual.double(), atol=1e-6, equal_nan=True):
            return wrong(f"{numbers}: {reason}.")
    if said.isnan().any():
        return wrong(f"{numbers}: a `nan` is a digit that was counted nowhere, as 0 divided by 0.")
    return wrong(
        f"{numbers}; {true[0]:.2f}, {true[1]:.2f}, {true[2]:.2f} are right. Is the guess the "
        "largest logit of each row (`argmax(1)`)?",
        "section 5, where `evaluate` takes the `argmax`",
    )


q2 = Question(
    number=2,
    kind="fill in",
    title="Which digits are hard?",
    lesson="01_mlp",
    place="section 5, where `evaluate` counts",
    expects="the function `accuracy_by_digit`",
    hints=(
        "The lesson's `evaluate` has the first two gaps, nearly as they are.",
        "`torch.bincount(labels, minlength=10)` counts how often each label is there.",
        "`seen` grows by the counts of `y`, `correct` by those of `y[guesses == y]`; divide the "
        "two once, after the loop.",
    ),
    takeaway="Count first and divide once, at the end: then no batch weighs more than its digits.",
    checker=_by_digit,
)


def train_by_hand(data):
    model = MLP(hidden=(32,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = data.train_dataloader()
    for _ in range(2):
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


HOMES = {
    "a": ("Trainer", "the Trainer calls `backward` on the loss that `training_step` returns"),
    "b": ("configure_optimizers", "this is what `configure_optimizers` has to return"),
    "c": ("training_step", "a batch reaches you as the argument of `training_step`"),
    "d": ("__init__", "the model is built once, with the module that holds it"),
    "e": ("training_step", "`training_step` has to return the loss, or the Trainer has none"),
    "f": ("Trainer", "the Trainer clears the gradients before each `backward`"),
    "g": ("__init__", "`super().__init__()` prepares the module, before anything is put on it"),
    "h": ("training_step", "the loss of a batch is computed where the batch is"),
    "i": ("Trainer", "the Trainer lets the optimizer step after each `backward`"),
    "j": ("Trainer", "epochs are the Trainer's: `max_epochs=2`"),
}
TEMPLATE = """\
class Assembled(L.LightningModule):
    def __init__(self):
        {__init__}

    def training_step(self, batch, batch_idx):
        {training_step}

    def configure_optimizers(self):
        {configure_optimizers}
"""
LINES = Lines(
    shown=(
        "loss.backward()",
        "return torch.optim.SGD(self.parameters(), lr=0.1)",
        "x, y = batch",
        "self.model = MLP(hidden=(32,))",
        "return loss",
        "optimizer.zero_grad()",
        "super().__init__()",
        "loss = F.cross_entropy(self.model(x), y)",
        "optimizer.step()",
        "for epoch in range(2):",
    ),
    template=TEMPLATE,
    beside=("Trainer",),
)


def _in_order(placed):
    placed = LINES.read(placed)
    strays = [
        (letter, home, reason)
        for letter, (home, reason) in HOMES.items()
        if letter not in placed[home]
    ]
    try:
        names = LINES.run(placed, {"L": L, "torch": torch, "F": F, "MLP": MLP})
        outcome = grade_port(
            train_by_hand, lambda data: _fit(names["Assembled"], data, max_epochs=2), MLP
        )
    except Exception:
        if not strays:
            raise
        outcome = None
    if outcome or not strays:  # an outcome is true if it is right
        return outcome
    letter, _, reason = strays[0]
    place = next(place for place, letters in placed.items() if letter in letters)
    more = f" ({len(strays)} lines are not in their place yet.)" if len(strays) > 1 else ""
    return wrong(f"`{letter}`, `{LINES.rows[letter]}`, is not for `{place}`: {reason}.{more}")


def _fit(kind, data, **flags):
    L.Trainer(**{**QUIET, **flags}).fit(kind(), train_dataloaders=data.train_dataloader())


q3 = Question(
    number=3,
    kind="lines in order",
    title="Where does each line go?",
    lesson="01_mlp",
    place="section 7, move 1",
    expects="a dictionary from place to letters",
    hints=(
        "Ask of each line: is it the idea, or the loop around it? The loop is the Trainer's.",
        "`training_step` gets a batch and returns its loss: three lines. `__init__` has two.",
        "`configure_optimizers` holds just `b`; `a`, `f`, `i` and `j` are the Trainer's.",
    ),
    takeaway="Three places hold the idea: what the model is, what a batch costs, which optimizer "
    "steps. All the rest is the Trainer's, and nobody can forget it.",
    checker=_in_order,
    ordered=LINES,
)


def train_smoothly(data):
    model = MLP(hidden=(32,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = data.train_dataloader()
    for _ in range(3):
        for x, y in loader:
            loss = F.cross_entropy(model(x), y, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()


PLACES = {
    "other learning rate": "section 7, move 2: the `lr` in `configure_optimizers`",
    "other optimizer settings": "section 7, move 2: `configure_optimizers`",
    "clipping in one": "section 9, the flag `gradient_clip_val`",
    "one run is shorter": "section 7, move 4: `max_epochs`",
    "other loss or gradient": "section 7, move 2: the loss, argument by argument",
}


def _smooth(port, flags):
    lit = a_class(port, "LitSmooth", L.LightningModule)
    if not isinstance(flags, dict):
        return wrong('`flags` should be a dictionary, as in `{"max_epochs": 1}`.')
    if not {"max_epochs", "max_steps"} & flags.keys():
        return wrong(
            "`flags` says nothing of how long to train, and then the Trainer goes on for 1,000 "
            "epochs: the loop makes 3."
        )
    return grade_port(train_smoothly, lambda data: _fit(lit, data, **flags), MLP, places=PLACES)


q4 = Question(
    number=4,
    kind="port",
    title="Another optimizer, another loss, a limit",
    lesson="01_mlp",
    place="section 7",
    expects="the class `LitSmooth` and a dictionary of flags",
    hints=(
        "What the loop says about the loss goes into `training_step`, about the optimizer into "
        "`configure_optimizers`. Epochs and the limit are flags.",
        "`configure_optimizers` returns the loop's second line, with `self.parameters()`.",
        "The limit on the gradient is `gradient_clip_val`; the loop over epochs is `max_epochs`.",
    ),
    takeaway="Whatever a loop does, find the one hook or flag that has it now: then the doctor "
    "finds nothing left to say.",
    checker=_smooth,
)


def broken_loaders(train, val):
    return (
        DataLoader(train, batch_size=64, shuffle=True, collate_fn=keep_batch),
        DataLoader(val, batch_size=64, collate_fn=keep_batch),
    )


def train_blindly(train_loader, val_loader):
    model = MLP(hidden=(32,))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(2):
        for x, y in train_loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()


class Looking(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = MLP(hidden=(32,))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.model(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.model(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def train_looking(train_loader, val_loader):
    L.Trainer(max_epochs=2, **QUIET).fit(Looking(), train_loader, val_loader)


def _order_of(loader):
    return torch.cat([x for x, _ in loader]).flatten(1).sum(1)


def _shuffles(make_loaders):
    """Return what is wrong with the order of the training digits, or None."""
    data = FewDigits()
    made = make_loaders(data.train, data.val)
    if not isinstance(made, (tuple, list)) or len(made) != 2:
        given = f"{len(made)} things" if isinstance(made, (tuple, list)) else type(made).__name__
        return wrong(f"`make_loaders` should return two loaders, and returns {given}.")
    all_, first, second = (_order_of(x) for x in (data.train_dataloader(), made[0], made[0]))
    if len(first) != len(all_) or not torch.equal(first.sort()[0], all_.sort()[0]):
        return wrong(
            f"Of {len(all_)} training digits, your training loader gives {len(first)}, or others: "
            "an epoch holds each of them once."
        )
    if torch.equal(first, second):
        return wrong(
            "The two runs might agree now, but only because the digits come in the same order in "
            "each epoch. Shuffle them anew each time.",
            "section 2, three loaders",
        )
    return None


def _mended(make_loaders):
    make = function(make_loaders, "make_loaders")
    if (found := _shuffles(make)) is not None:
        return found
    for size in (200, 192):
        outcome = grade_port(
            lambda data: train_blindly(*make(data.train, data.val)),
            lambda data: train_looking(*make(data.train, data.val)),
            MLP,
            lambda size=size: FewDigits(train=size),
            names=("the loop that never looks", "the port that does"),
            places=LOADERS,
        )
        if not outcome:
            return outcome
    return right("On 200 digits and on 192, looking changes nothing.")


LOADERS = {
    "other batch order: validation in one loop only": "section 2, three loaders: each "
    "loader gets a generator of its own",
    "other batch order after a full last batch": "section 2, on `ShuffleSampler`: 192 "
    "digits are three full batches",
}

q5 = Question(
    number=5,
    kind="break and mend",
    title="The port that only looked",
    lesson="01_mlp",
    place="section 2, three loaders",
    expects="the function `make_loaders`",
    hints=(
        "A pass over a loader draws a random number, even where nothing is shuffled. From where?",
        "Give each loader a `generator` of its own: `seeded(42)` makes one.",
        "For a full last batch, also take `ShuffleSampler(train, seeded(42))` in place of "
        "`shuffle=True`.",
    ),
    takeaway="Randomness that is shared couples things that have nothing to do with each other: a "
    "generator for each loader, and looking stays looking.",
    checker=_mended,
)


# What q.solution() shows: the answer cells, worked out.
q1.answer = """\
parameters = (784 * 64 + 64) + (64 * 10 + 10)
steps = 5 * 16  # 15 full batches and one of 40
"""
q2.answer = """\
def accuracy_by_digit(model, loader):
    model.eval()
    seen, correct = torch.zeros(10), torch.zeros(10)
    with torch.no_grad():
        for x, y in loader:
            guesses = model(x).argmax(1)
            seen += torch.bincount(y, minlength=10)
            correct += torch.bincount(y[guesses == y], minlength=10)
    return correct / seen
"""
q3.answer = """\
placed = {
    "__init__": "gd",
    "training_step": "che",
    "configure_optimizers": "b",
    "Trainer": "jfai",
}
"""
q4.answer = """\
class LitSmooth(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = MLP(hidden=(32,))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.model(x), y, label_smoothing=0.1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


flags = {"max_epochs": 3, "gradient_clip_val": 1.0}
"""
q5.answer = """\
def make_loaders(train, val):
    sampler = ShuffleSampler(train, seeded(42))
    return (
        DataLoader(
            train, batch_size=64, sampler=sampler, collate_fn=keep_batch, generator=seeded(42)
        ),
        DataLoader(val, batch_size=64, collate_fn=keep_batch, generator=seeded(42)),
    )
"""
QUESTIONS = [q1, q2, q3, q4, q5]
