"""The questions of lesson 5. Built from exercises/05_style_transfer.py: never edit."""

from copy import deepcopy
from types import SimpleNamespace

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from course_utils.digits import seeded
from course_utils.exercises import (
    QUIET,
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
from course_utils.models.loss_network import LossNetwork
from course_utils.models.style import content_loss, gram, style_loss

USUAL = {
    "together": {
        1: "one place has both; the Gram matrix holds the mean over all four places, not the sum",
        0.5: "that is how strong each map is by itself; both are there in one place of four",
        0: "in the first place both are there",
        2: "that is the sum of one map, and the mean over places of both is asked",
        0.75: "that is where one or the other is there; the product asks for both",
    },
    "doubled": {
        2: "each number is a product of two values, and both are doubled",
        1: "the Gram matrix divides by the number of places, not by the strength of the maps",
        16: "the values are doubled, each product has two of them",
    },
    "larger": {
        4: "there are four times as many products, and the mean is over four times as many places",
        2: "there are more products, and the mean is over as many more places",
        16: "there are four times as many products, and the mean is over as many more places",
        0.25: "the mean is over four times as many places, and the sum has as many more products",
    },
}


def _gram_numbers(together, doubled, larger):
    maps = torch.tensor([[[[1.0, 1], [0, 0]], [[1, 0], [1, 0]]]])
    one = gram(maps)[0, 0, 1].item()
    true = {
        "together": one,
        "doubled": gram(2 * maps)[0, 0, 1].item() / one,
        "larger": gram(F.interpolate(maps, scale_factor=2))[0, 0, 1].item() / one,
    }
    for name, said in (("together", together), ("doubled", doubled), ("larger", larger)):
        found = number(said, name)
        if found != true[name]:
            side = "small" if found < true[name] else "large"
            reason = USUAL[name].get(found, "multiply place by place, then take the mean")
            return wrong(f"{found:g} is too {side} for `{name}`: {reason}.")
    return right("A quarter; four times; no change.")


q1 = Question(
    number=1,
    kind="predict",
    title="What is in a Gram matrix?",
    lesson="05_style_transfer",
    place="section 2, on what style is",
    expects="three numbers",
    hints=(
        "Write the four products of a and b below each other, place by place.",
        "`gram` divides by `rows.shape[-1]`, the number of places: it is a mean of products.",
    ),
    takeaway="As a mean over places it compares pictures of different sizes; as a mean of products "
    "it grows with the square of the maps, which is why the style loss is divided by the target's.",
    checker=_gram_numbers,
)


def _network():
    """Return a small loss network whose batch norm has seen some pictures, in training mode."""
    torch.manual_seed(4)
    network = LossNetwork(3, (4, 8, 8, 8))
    with torch.no_grad():
        for _ in range(5):
            network(torch.rand(4, 1, 48, 48))
    return network


def _picture(seed, height=32, width=32, count=1):
    """Return pictures of stripes under noise (count, 1, height, width), by seed."""
    noise = torch.rand(count, 1, height, width, generator=seeded(seed))
    return (noise + torch.arange(width).mul(seed % 5 + 1).sin()).div(3).clamp(0, 1)


def _mixed(mixed):
    mix, network = function(mixed, "mixed"), _network().eval().requires_grad_(False)
    for share, sizes in ((0.75, (32, 32)), (0.2, (32, 48))):
        first, second = (network.features(_picture(i, s, s)) for i, s in enumerate(sizes, start=2))
        said = mix(list(first), list(second), share)
        if not isinstance(said, (list, tuple)) or len(said) != len(first):
            size = len(said) if isinstance(said, (list, tuple)) else type(said).__name__
            return wrong(f"`mixed` should give a list of {len(first)} targets, and gives {size}.")
        for stage, (a, b) in enumerate(zip(first, second, strict=True)):
            found = values(said[stage], "a target", (1, a.shape[1], a.shape[1])).float()
            if (reason := _mix_error(found, a, b, share)) is not None:
                return wrong(f"Of {share:.0%} of the first style, stage {stage + 1}: {reason}.")
    return right("Also of pictures of two sizes.")


def _mix_error(found, a, b, share):
    """Return what is wrong with a target between those of two pictures' maps, or None."""
    ga, gb, rest = gram(a), gram(b), 1 - share
    true = share * ga + rest * gb
    if torch.allclose(found, true, rtol=1e-3, atol=1e-6):
        return None
    usual = {
        "the shares are exchanged": rest * ga + share * gb,
        "both have the same share": (ga + gb) / 2,
        "this is the sum of both": ga + gb,
        "this is the first style alone": ga,
        "this is the second style alone": gb,
    }
    if a.shape == b.shape:
        usual["the maps were mixed, place by place, and the Gram matrix taken of that; mix the "
              "Gram matrices, in which places are gone"] = gram(share * a + rest * b)  # fmt: skip
    reasons = [r for r, m in usual.items() if torch.allclose(found, m, rtol=1e-3, atol=1e-6)]
    reasons += [f"the two styles have {ga[0, 0, 0]:.3g} and {gb[0, 0, 0]:.3g}"]
    return (
        f"the first number is {found[0, 0, 0]:.3g} and should be {true[0, 0, 0]:.3g}; {reasons[0]}"
    )


q2 = Question(
    number=2,
    kind="fill in",
    title="A mix of two styles",
    lesson="05_style_transfer",
    place="section 2, where `gram` is defined",
    expects="the function `mixed`",
    hints=(
        "Maps of two pictures cannot be added, as they may differ in size. What of them can?",
        "One stage's target is `share` of the one Gram matrix and `1 - share` of the other.",
    ),
    takeaway="Gram matrices of all pictures have the same size, and a mean of two is a target as "
    "good as any. `StyleLosses` would need no other change.",
    checker=_mixed,
)


class Sharpener(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(8, 1, 3, padding=1),
        )

    def forward(self, x):
        return self.layers(x)


def sharpen(looker, loader):
    model = Sharpener()
    looker.eval().requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x in loader:
        drawn = model(F.avg_pool2d(x, 2))
        after = looker.features(drawn, stages=2)[1]
        before = looker.features(x, stages=2)[1]
        loss = F.mse_loss(after, before)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


HOMES = {
    "a": ("training_step", "each drawn picture is looked at anew"),
    "b": ("configure_optimizers", "this is what `configure_optimizers` has to return"),
    "c": ("__init__", "the network that looks is fixed once, and belongs to the module"),
    "d": ("Trainer", "the Trainer calls `backward` on the loss that `training_step` returns"),
    "e": ("training_step", "`training_step` has to return the loss"),
    "f": ("__init__", "the model is built once, with the module that holds it"),
    "g": ("training_step", "it draws the batch at hand"),
    "h": ("__init__", "`super().__init__()` prepares the module, before anything is put on it"),
    "i": ("Trainer", "the Trainer lets the optimizer step after each `backward`"),
    "j": ("training_step", "the original is that of the batch at hand"),
    "k": ("Trainer", "the Trainer hands over one batch after the other"),
    "l": ("Trainer", "the Trainer clears the gradients before each `backward`"),
}
NEEDS = {  # of two lines, the one that has to come first and the other: why
    **dict.fromkeys(("hc", "hf"), "a module can hold nothing before `super().__init__()`"),
    **dict.fromkeys(("ga", "ae", "je"), "it needs what that line makes"),
}
TEMPLATE = """\
class Assembled(L.LightningModule):
    def __init__(self, looker):
        {__init__}

    def training_step(self, batch, batch_idx):
        {training_step}

    def configure_optimizers(self):
        {configure_optimizers}
"""
LINES = Lines(
    shown=(
        "after = self.looker.features(drawn, stages=2)[1]",
        "return torch.optim.Adam(self.model.parameters(), lr=1e-3)",
        "self.looker = looker.eval().requires_grad_(False)",
        "loss.backward()",
        "return F.mse_loss(after, before)",
        "self.model = Sharpener()",
        "drawn = self.model(F.avg_pool2d(batch, 2))",
        "super().__init__()",
        "optimizer.step()",
        "before = self.looker.features(batch, stages=2)[1]",
        "for batch in loader:",
        "optimizer.zero_grad()",
    ),
    template=TEMPLATE,
    beside=("Trainer",),
)


def _in_order(placed):
    placed = LINES.read(placed)
    found = _out_of_place(placed)
    try:
        names = LINES.run(placed, {"L": L, "torch": torch, "F": F, "Sharpener": Sharpener})
        outcome = grade_port(
            lambda data: sharpen(data.looker, data.loader),
            lambda data: _fit(names["Assembled"](data.looker), data.loader),
            Sharpener,
            lambda: SimpleNamespace(looker=_network(), loader=_crops()),
        )
        if outcome or found is None:  # an outcome is true if it is right
            return outcome
    except Exception:
        if found is None:
            raise
    return wrong(found)


def _crops():
    return DataLoader(_picture(3, count=12), batch_size=4, generator=seeded(1))


def _fit(lit, loader):
    L.Trainer(**QUIET, max_epochs=1).fit(lit, loader)


def _out_of_place(placed):
    """Return what to say of a line that is in a wrong place or too early, or None."""
    strays = [a for a, (home, _) in HOMES.items() if a not in placed[home]]
    if strays:
        first = strays[0]
        place = next(place for place, letters in placed.items() if first in letters)
        more = f" ({len(strays)} lines are not in their place yet.)" if len(strays) > 1 else ""
        reason = HOMES[first][1]
        return f"`{first}`, `{LINES.rows[first]}`, is not for `{place}`: {reason}.{more}"
    order = "".join(placed.values())
    for (first, then), reason in NEEDS.items():
        if order.index(first) > order.index(then):
            return f"`{then}`, `{LINES.rows[then]}`, stands before `{first}`: {reason}."
    return None


q3 = Question(
    number=3,
    kind="lines in order",
    title="Sharper pictures",
    lesson="05_style_transfer",
    place="section 4, moves 1 and 2",
    expects="a dictionary from place to letters",
    hints=(
        "Which lines are done once, which for each batch? The loop around them is the Trainer's.",
        "`__init__` has three lines: `h` first, then both networks.",
        "`training_step` draws (`g`), looks at both pictures, and ends with `e`; `d`, `i`, `k` and "
        "`l` are the Trainer's.",
    ),
    takeaway="Another task, the same places: both networks in `__init__`, one of them fixed, and "
    "the optimizer gets the one that learns.",
    checker=_in_order,
    ordered=LINES,
)


class Canvas(nn.Module):
    def __init__(self, picture):
        super().__init__()
        self.picture = nn.Parameter(picture.clone())

    def forward(self):
        return self.picture


def paint(looker, picture, style):
    looker.eval().requires_grad_(False)
    grams = [gram(maps) for maps in looker.features(style)]
    before = looker.features(picture)
    canvas = Canvas(picture)
    optimizer = torch.optim.Adam(canvas.parameters(), lr=0.05)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    for _ in range(12):
        after = looker.features(canvas())
        loss = style_loss(after, grams) + 0.3 * content_loss(after, before)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            canvas.picture.clamp_(0, 1)  # back into the range of pixels


BY_STEP = 'section 4, move 2, and lesson 4 on schedulers: `"interval": "step"`'
PLACES = {
    "scheduler per step in one, per epoch in the other": BY_STEP,
    "scheduler per step in one, not in the other": BY_STEP,
    "other loss or gradient": "section 2, three losses; and what does the loop do to the pixels "
    "after each step?",
    "other initialisation": "section 4, move 1; and from which pixels does the loop start?",
    "another network in training mode": "section 5, two mistakes that this refactor invites",
}


def _painted(painter):
    lit = a_class(painter, "LitPaint", L.LightningModule)
    return grade_port(
        lambda data: paint(data.looker, data.picture, data.style),
        lambda data: _fit(lit(data.looker, data.picture, data.style), DataLoader(range(12))),
        "Canvas",
        lambda: SimpleNamespace(looker=_network(), picture=_picture(2), style=_picture(3, 48)),
        places=PLACES,
    )


q4 = Question(
    number=4,
    kind="port",
    title="Painting pixel by pixel",
    lesson="05_style_transfer",
    place="section 4, moves 1 and 2",
    expects="the class `LitPaint`",
    hints=(
        "What stands before the loop goes into `__init__`, but the optimizer and its scheduler. "
        "`training_step` returns the loss and looks at no batch.",
        '`configure_optimizers` returns `{"optimizer": …, "lr_scheduler": {"scheduler": …, '
        '"interval": "step"}}`: else the scheduler waits for the epoch\'s end.',
        "The pixels go back into their range when a batch is done: `on_train_batch_end(self, "
        "outputs, batch, batch_idx)`.",
    ),
    takeaway="A parameter need not be a weight, and a batch need not hold anything: whatever is "
    "trained by steps fits into the same hooks.",
    checker=_painted,
)


class HalfAModule(nn.Module):
    def __init__(self, network, style):
        super().__init__()
        self.network = network
        self.grams = [gram(maps) for maps in network.features(style)]

    @torch.no_grad()
    def forward(self, drawn):
        return style_loss(self.network.features(drawn), self.grams)


def _whole(whole):
    kind = a_class(whole, "WholeModule", nn.Module)
    style, drawn = _picture(3, 48), torch.cat([_picture(1), _picture(2)])
    losses = kind(_network(), style)
    for check in (_learns, _alone, _fixed, _moves, _saved):
        if (found := check(losses, kind, style, drawn)) is not None:
            return wrong(*found)
    return right("Fixed, moved and saved as one.")


def _learns(losses, kind, style, drawn):
    drawn = drawn.clone().requires_grad_()
    loss = losses(drawn)
    values(loss, "the loss", ())
    if not loss.requires_grad:
        return (
            f"The loss, {loss:.3f}, has no gradient: whatever network draws, it learns nothing "
            "from this. `no_grad` is for what nobody trains through.",
            "common mistakes: `no_grad()` around the features of the drawn picture",
        )
    return None


def _alone(losses, kind, style, drawn):
    each = [losses(one[None]).item() for one in drawn]
    both, mean = losses(drawn).item(), sum(each) / 2
    if abs(both - mean) > 1e-3 * mean:
        return (
            f"Two pictures alone have losses {each[0]:.4f} and {each[1]:.4f}, mean {mean:.4f}; "
            f"together {both:.4f}. Batch norm measures the batch: in which mode is the loss "
            "network?",
            "section 5, two mistakes that this refactor invites",
        )
    own = losses(style).item()
    if own > 1e-6:
        return (
            f"The style picture itself has a loss of {own:.4f}, and it should have 0. In which "
            "mode was the loss network when its Gram matrices were taken?",
            "section 5, two mistakes that this refactor invites",
        )
    network = _network().eval()
    true = style_loss(network.features(drawn), [gram(maps) for maps in network.features(style)])
    true = true.item()
    if abs(both - true) > 1e-3 * true:
        return f"The loss is {both:.4f}; `style_loss` of all four stages gives {true:.4f}.", ""
    return None


def _fixed(losses, kind, style, drawn):
    trained = sum(weight.requires_grad for weight in losses.parameters())
    if trained:
        return (
            f"{trained} tensors of it wait to be trained. Whoever hands `parameters()` to an "
            "optimizer changes the measure while measuring: freeze the loss network.",
            "section 5, two mistakes that this refactor invites",
        )
    return None


def _moves(losses, kind, style, drawn):
    moved = deepcopy(losses).bfloat16()
    try:
        after = moved(drawn.bfloat16()).dtype
    except RuntimeError as error:
        after = str(error)
    if after != torch.bfloat16:
        return (
            "`.bfloat16()` changes all that a module has, as `.to(device)` moves it. After it, "
            f"your loss is not in bfloat16 ({after}): something stayed behind. A tensor in a list "
            "or in an attribute does, a buffer does not.",
            "section 4, move 1: buffers",
        )
    return None


def _saved(losses, kind, style, drawn):
    other = kind(_network(), _picture(4, 40))
    try:
        other.load_state_dict(losses.state_dict())
    except RuntimeError:
        return "Its `state_dict` does not fit a module of another style picture.", ""
    if abs(other(drawn).item() - losses(drawn).item()) > 1e-5:
        return (
            "After `load_state_dict`, a module of another style still has its old targets: "
            "they are not in the `state_dict`, and so in no checkpoint.",
            "section 4, move 1: buffers",
        )
    return None


q5 = Question(
    number=5,
    kind="break and mend",
    title="Half a module",
    lesson="05_style_transfer",
    place="section 4, move 1",
    expects="the class `WholeModule`",
    hints=(
        "Ask four things: in which mode is the network, who may train it, where do the targets "
        "live, and does a gradient get through?",
        "`network.eval().requires_grad_(False)`, before its Gram matrices are taken; and no "
        "`no_grad` in `forward`.",
        'Each target by a name of its own: `self.register_buffer(f"gram_{i}", gram(maps))`, '
        "and `self.get_buffer` to get it back.",
    ),
    takeaway="What only measures is in evaluation mode, frozen, and lets gradients through; what "
    "it knows is in buffers. Then it can go anywhere with its module.",
    checker=_whole,
)


# What q.solution() shows: the answer cells, worked out.
q1.answer = """\
together = 1 / 4  # both are 1 in one place of four
doubled = 2 * 2
larger = 1
"""
q2.answer = """\
def mixed(first, second, share):
    targets = []
    for maps, others in zip(first, second, strict=True):
        targets.append(share * gram(maps) + (1 - share) * gram(others))
    return targets
"""
q3.answer = """\
placed = {
    "__init__": "hcf",
    "training_step": "gaje",
    "configure_optimizers": "b",
    "Trainer": "kldi",
}
"""
q4.answer = """\
class LitPaint(L.LightningModule):
    def __init__(self, looker, picture, style):
        super().__init__()
        self.looker = looker.eval().requires_grad_(False)
        for i, maps in enumerate(looker.features(style)):
            self.register_buffer(f"gram_{i}", gram(maps))
        for i, maps in enumerate(looker.features(picture)):
            self.register_buffer(f"before_{i}", maps)
        self.canvas = Canvas(picture)

    def kept(self, name):
        return [self.get_buffer(f"{name}_{i}") for i in range(4)]

    def training_step(self, batch, batch_idx):
        after = self.looker.features(self.canvas())
        style = style_loss(after, self.kept("gram"))
        return style + 0.3 * content_loss(after, self.kept("before"))

    def on_train_batch_end(self, outputs, batch, batch_idx):
        with torch.no_grad():
            self.canvas.picture.clamp_(0, 1)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.canvas.parameters(), lr=0.05)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
        scheduling = {"scheduler": scheduler, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduling}
"""
q5.answer = """\
class WholeModule(nn.Module):
    def __init__(self, network, style):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        for i, maps in enumerate(network.features(style)):
            self.register_buffer(f"gram_{i}", gram(maps))

    def forward(self, drawn):
        found = self.network.features(drawn)
        return style_loss(found, [self.get_buffer(f"gram_{i}") for i in range(len(found))])
"""
QUESTIONS = [q1, q2, q3, q4, q5]
