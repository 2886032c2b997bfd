"""The questions of lesson 2. Built from exercises/02_autoencoder.py: never edit."""

import copy
import csv
import tempfile
from functools import cache
from pathlib import Path
from pickle import UnpicklingError

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.nn import functional as F

from course_utils.digits import MEAN, STD
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
from course_utils.models import Autoencoder, LitAutoEncoder

STEPS = {
    (4, 8): "Lightning counts steps from 0, so the fourth is step 3",
    (0, 4, 8): "the first step is not logged at once: the logger waits for four steps",
    (3, 3): "the count goes on through both epochs: the second begins with step 5",
    (3, 8): "the wait for the next four steps does not begin anew with the second epoch",
    (4, 9): "those are the last steps of the epochs, where the means stand (`loss_epoch`)",
    tuple(range(10)): "that is every step; the logger is asked at every fourth",
}
MEANS = {
    4 / 3: "it is the mean over the batches, where the small one weighs as much as a full one",
    2: "it is the loss of the last batch: that is what `on_step` gives",
    4: "it is a sum; the log has the mean",
    1: "the last batch counts too",
}


class _Told(LitAutoEncoder):
    def training_step(self, batch, batch_idx):
        loss = self._loss(batch)
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss


def _logged(lit, data, *callbacks, **flags):
    """Return the rows of the CSV file that a run writes."""
    with tempfile.TemporaryDirectory() as folder:
        logger = CSVLogger(folder)
        trainer = L.Trainer(**{**QUIET, "logger": logger}, callbacks=list(callbacks), **flags)
        trainer.fit(lit, data.train_dataloader())
        file = Path(logger.log_dir, "metrics.csv")
        text = file.read_text("utf-8") if file.is_file() else ""
    return list(csv.DictReader(text.splitlines()))


def _told(steps, mean):
    try:
        said = torch.as_tensor(steps, dtype=torch.float64).flatten().tolist()
    except Exception:  # whatever objects of any class raise
        return wrong("`steps` should be a list of numbers, as in `[1, 2, 3]`.")
    rows = _logged(_Told(), FewDigits(train=300), max_epochs=2, log_every_n_steps=4)
    if said != [int(row["step"]) for row in rows if row["loss_step"]]:
        listed = ", ".join(f"{step:g}" for step in said) or "none"
        usual = STEPS.get(tuple(said), "there are ten steps, 0 to 9, and every fourth is logged")
        return wrong(f"Steps {listed}: {usual}.")
    said = number(mean, "mean")
    if not abs(said - 1.2) < 1e-6:
        found = [reason for usual, reason in MEANS.items() if abs(said - usual) < 0.005]
        usual = (found or ["each batch is weighed by its size, and there are 150 digits"])[0]
        return wrong(f"A mean of {said:.4g}: {usual}.", "section 6, the table of the flags")
    return right("Steps 3 and 7, and a mean of 180 / 150 = 1.2.")


q1 = Question(
    number=1,
    kind="predict",
    title="What will stand in the log?",
    lesson="02_autoencoder",
    place="section 6, the table that the logger wrote",
    expects="a list of steps and a number",
    hints=(
        "In the lesson, `log_every_n_steps=2` gave the steps 1, 3, 5 and 7.",
        "Lightning counts all steps of a run, from 0: the second epoch begins with step 5.",
        "Every fourth of 0, 1, 2, 3, 4, …, 9. For the mean: (60 · 1 + 60 · 1 + 30 · 2) / 150.",
    ),
    takeaway="What is logged by step is a sample of single batches; what is logged by epoch weighs "
    "each digit alike.",
    checker=_told,
)


class _Norms(L.Callback):
    """What a step's gradients and weights measure, by itself, as the log should have it."""

    def __init__(self):
        self.steps = []

    def on_before_optimizer_step(self, trainer, lit, optimizer):
        each = torch.stack([p.grad.norm() for p in lit.parameters()]).double()
        largest = max(p.grad.abs().max().item() for p in lit.parameters())
        weights = torch.cat([p.detach().flatten() for p in lit.parameters()]).norm().item()
        usual = [each.norm(), each.sum(), each.mean(), each.max(), each.norm() ** 2, each[0]]
        self.steps.append([float(value) for value in (*usual, each[-1], largest, weights)])


PLACE = "section 6, where the training loss is logged: one number, by one name"
NORMS = (
    "right",
    "it is the sum of the norms of all tensors; square each, add, and take the root",
    "it is the mean of the norms of all tensors; the norm of one long vector was asked for",
    "it is the norm of the tensor whose gradient is largest; all belong together",
    "it is the square of the norm: take the root",
    "it is the norm of the first parameter's gradient alone",
    "it is the norm of the last parameter's gradient alone: log once, after the loop",
    "it is the largest single number in the gradients, not their norm",
    "it is the norm of the weights; gradients are in `.grad`",
)


def _column(rows):
    """Return what the log has by step, or what is wrong with it."""
    names = [name for row in rows[:1] for name in row if name not in ("epoch", "step")]
    name = next((n for n in ("grad_norm_step", "grad_norm") if n in names), None)
    if name is None:
        have = ", ".join(f"`{n}`" for n in names) or "nothing"
        return wrong(f"The log has no `grad_norm`. It has {have}: log the norm, by that name.")
    said = [float(row[name]) for row in rows if row[name]]
    if len(said) != 8:
        return wrong(
            f"In 8 steps your log has {len(said)} values of `grad_norm`: one a step was asked for."
        )
    return said


def _watched(port):
    lit, norms = a_class(port, "LitWatched", LitAutoEncoder), _Norms()
    rows = _logged(lit(), FewDigits(), norms, max_epochs=2, log_every_n_steps=1)
    said = _column(rows)
    if not isinstance(said, list):
        return said
    for mistake, usual in zip(NORMS[1:], list(zip(*norms.steps, strict=True))[1:], strict=True):
        if torch.allclose(torch.tensor(said), torch.tensor(usual), rtol=1e-4):
            return wrong(f"At the first step you log {said[0]:.4f}: {mistake}.", PLACE)
    true = [step[0] for step in norms.steps]
    if not torch.allclose(torch.tensor(said), torch.tensor(true), rtol=1e-4):
        return wrong(
            f"At the first step you log {said[0]:.4f}, and the norm of all gradients is "
            f"{true[0]:.4f}: the root of the sum of all squares."
        )
    return grade_port(
        lambda data: _fit(LitAutoEncoder(), data, max_epochs=2),
        lambda data: _fit(lit(), data, max_epochs=2),
        Autoencoder,
        names=("the plain system", "yours"),
        places={"clipping in one": "section 6: looking only, `clip_grad_norm_` also cuts"},
    )


def _fit(lit, data, val=None, **flags):
    L.Trainer(**{**QUIET, **flags}).fit(lit, data.train_dataloader(), val)


q2 = Question(
    number=2,
    kind="fill in",
    title="Watch the gradient",
    lesson="02_autoencoder",
    place="section 6, the table of the flags",
    expects="the class `LitWatched`",
    hints=(
        "The hook runs after `backward`: loop over `self.parameters()`, and look at each `.grad`.",
        "`torch.cat` joins flat tensors into one vector, and `.norm()` measures it.",
        "Join `p.grad.flatten()` of all parameters, and give its norm to `self.log`, once.",
    ),
    takeaway="A hook is a place to look from: what it only reads and logs changes no bit.",
    checker=_watched,
)


def train_with_pictures(data, shown):
    model = Autoencoder(code_size=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader, pictures = data.train_dataloader(), []
    for _ in range(3):
        model.train()
        for x, _ in loader:
            loss = F.mse_loss(model(x), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        pixels = model(shown) * STD + MEAN
        pictures.append(pixels.clamp(0, 1).detach())
    return pictures


HOMES = {
    "a": ("configure_optimizers", "this is what `configure_optimizers` has to return"),
    "b": ("forward", "grey levels are for people: they come out of the users' door"),
    "c": ("training_step", "a batch reaches you as the argument of `training_step`"),
    "d": ("on_train_epoch_end", "one picture is kept after each epoch, neither before nor at each "
          "step"),
    "e": ("Trainer", "the Trainer puts the system into training mode before each epoch"),
    "f": ("__init__", "`super().__init__()` prepares the module, before anything is put on it"),
    "g": ("training_step", "the loss compares the model's own output with the batch"),
    "h": ("__init__", "the list begins empty, once, or it forgets what it has kept"),
    "i": ("forward", "grey levels from 0 to 1 are for people: it ends the users' door"),
    "j": ("__init__", "the model is built once, with the system that holds it"),
    "k": ("Trainer", "the Trainer calls `backward` on the loss that `training_step` returns"),
}  # fmt: skip
TEMPLATE = """\
class Assembled(L.LightningModule):
    def __init__(self, shown):
        {__init__}

    def forward(self, x):
        {forward}

    def training_step(self, batch, batch_idx):
        {training_step}

    def on_train_epoch_end(self):
        {on_train_epoch_end}

    def configure_optimizers(self):
        {configure_optimizers}
"""
LINES = Lines(
    shown=(
        "return torch.optim.Adam(self.parameters(), lr=1e-3)",
        "pixels = self.model(x) * STD + MEAN",
        "x, _ = batch",
        "self.pictures.append(self(self.shown).detach())",
        "model.train()",
        "super().__init__()",
        "return F.mse_loss(self.model(x), x)",
        "self.shown, self.pictures = shown, []",
        "return pixels.clamp(0, 1)",
        "self.model = Autoencoder(code_size=2)",
        "loss.backward()",
    ),
    template=TEMPLATE,
    beside=("Trainer",),
)


def _graded(placed):
    """Return the doctor's outcome, and whether both kept the same pictures."""
    known = {"L": L, "torch": torch, "F": F, "Autoencoder": Autoencoder, "STD": STD, "MEAN": MEAN}
    kind, kept = LINES.run(placed, known)["Assembled"], {}
    shown = next(iter(FewDigits(seed=7).val_dataloader()))[0][:8]

    def loop(data):
        kept["loop"] = train_with_pictures(data, shown)

    def port(data):
        lit = kind(shown)
        _fit(lit, data, max_epochs=3)
        kept["port"] = lit.pictures

    outcome = grade_port(loop, port, Autoencoder)
    same = len(kept["port"]) == 3 and all(map(torch.equal, kept["loop"], kept["port"]))
    if outcome and not same:
        outcome = wrong(f"The port keeps {len(kept['port'])} pictures, not the loop's three.")
    return outcome


def _in_order(placed):
    placed = LINES.read(placed)
    strays = [letter for letter, (home, _) in HOMES.items() if letter not in placed[home]]
    try:
        outcome = _graded(placed)
    except Exception:
        if not strays:
            raise
        outcome = None
    if outcome or not strays:  # an outcome is true if it is right
        return outcome
    letter = strays[0]
    place = next(place for place, letters in placed.items() if letter in letters)
    more = f" ({len(strays)} lines are not in their place yet.)" if len(strays) > 1 else ""
    why = HOMES[letter][1]
    return wrong(f"`{letter}`, `{LINES.rows[letter]}`, is not for `{place}`: {why}.{more}")


q3 = Question(
    number=3,
    kind="lines in order",
    title="Which door, which hook?",
    lesson="02_autoencoder",
    place="section 5, the two doors",
    expects="a dictionary from place to letters",
    hints=(
        "Who is served: the Trainer, with a loss, or people, with pictures in grey levels?",
        "`__init__` has three lines, `forward` and `training_step` two each.",
        "`forward` is `b`, then `i`; `training_step` is `c`, then `g`; the Trainer has `ek`.",
    ),
    takeaway="The Trainer's door gives a loss, the users' door pictures: whoever looks takes that.",
    checker=_in_order,
    ordered=LINES,
)


def with_noise(x):
    return x + 0.5 * torch.randn_like(x)


def train_denoiser(data):
    model = Autoencoder(code_size=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    train_loader, val_loader = data.train_dataloader(), data.val_dataloader()
    for epoch in range(1, 5):
        model.train()
        for x, _ in train_loader:
            loss = F.mse_loss(model(with_noise(x)), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 2 == 0:
            model.eval()
            with torch.no_grad():
                losses = [F.mse_loss(model(with_noise(x)), x) for x, _ in val_loader]
            print(f"epoch {epoch}: val loss {torch.stack(losses).mean():.4f}")


DRAWS = ("other random numbers in the data", "extra random draw", "validation draws")
PLACES = dict.fromkeys(
    DRAWS, "section 5, the two steps: where does the loop draw noise, and how often"
) | {
    "other learning rate": "section 5, `configure_optimizers`",
    "one run is shorter": "section 6, `max_epochs`",
}


def _denoising(port, flags):
    lit = a_class(port, "LitDenoiser", L.LightningModule)
    if not isinstance(flags, dict) or not {"max_epochs", "max_steps"} & flags.keys():
        return wrong(
            '`flags` should be a dictionary that says how long to train (`{"max_epochs": …}`): '
            "else the Trainer goes on for 1,000 epochs, and the loop makes 4."
        )

    def ported(data):
        _fit(lit(), data, data.val_dataloader(), **flags)

    return grade_port(train_denoiser, ported, Autoencoder, places=PLACES)


q4 = Question(
    number=4,
    kind="port",
    title="A denoiser",
    lesson="02_autoencoder",
    place="section 5, `LitAutoEncoder`",
    expects="the class `LitDenoiser` and a dictionary of flags",
    hints=(
        "`LitAutoEncoder` is nearly it: noise goes into the network, the target stays clean.",
        "`validation_step` draws noise too: what it draws shifts that of the next epoch.",
        "The Trainer validates after each epoch, unless `check_val_every_n_epoch=2`.",
    ),
    takeaway="Whoever draws from the global generator shifts what all others draw. Where you can, "
    "give each use a generator of its own.",
    checker=_denoising,
)


class Drawing(L.LightningModule):
    def forward(self, x):
        return self.decoder(self.encoder(x))

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self(batch[0]), batch[0])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


def round_trip(lit):
    trainer = L.Trainer(max_steps=2, **QUIET)
    trainer.fit(lit, FewDigits().train_dataloader())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.ckpt"
        trainer.save_checkpoint(path)
        return type(lit).load_from_checkpoint(path, map_location="cpu", weights_only=True)


def _loaded(lit):
    """Return the system that came back, or what is wrong with what was saved."""
    try:
        return round_trip(lit)
    except UnpicklingError:
        held = [f"`{name}`" for name, value in lit.hparams.items() if isinstance(value, nn.Module)]
        return wrong(
            "The checkpoint is refused: its hyperparameters hold more than numbers, namely "
            f"{', '.join(held) or 'an object of some class'}."
        )
    except TypeError as error:
        if "required positional argument" not in str(error):
            raise
        kept = ", ".join(f"`{name}`" for name in lit.hparams) or "none"
        return wrong(
            "The file loads, but `LitSized` cannot be built from it: `__init__` needs an argument "
            f"that was not saved. The hyperparameters in the file: {kept}."
        )
    except RuntimeError as error:
        if "in loading state_dict" not in str(error):
            raise
        return wrong(
            "The system is built again with another code size than it was saved with, so the "
            "weights don't fit. Does the file hold `code_size`?"
        )


def _sized(system):
    lit_class = a_class(system, "LitSized", L.LightningModule)
    x = next(iter(FewDigits(seed=3).val_dataloader()))[0]
    for code_size, lr in ((5, 0.01), (2, 0.003)):
        lit, asked = lit_class(code_size, lr), f"LitSized({code_size}, {lr})"
        if not hasattr(lit, "encoder") or not hasattr(lit, "decoder"):
            return wrong(f"`{asked}` has no `encoder`, or no `decoder`: `__init__` builds both.")
        if list((codes := lit.encoder(x)).shape) != [len(x), code_size]:
            return wrong(f"`{asked}` makes codes of {codes.shape[-1]} numbers, not {code_size}.")
        if not isinstance(again := _loaded(lit), L.LightningModule):
            return again
        rate = again.configure_optimizers().param_groups[0]["lr"]
        if rate != lr:
            return wrong(f"`{asked}` comes back with the learning rate {rate:g}.")
        if not torch.equal(again(x), lit(x)):
            return wrong(f"`{asked}` comes back with other weights: its pictures are others.")
    return right("Two systems of other sizes came back as they were.")


q5 = Question(
    number=5,
    kind="break and mend",
    title="The checkpoint that nobody can load",
    lesson="02_autoencoder",
    place="section 12, why `weights_only=True` matters",
    expects="the class `LitSized`",
    hints=(
        "What does `hyper_parameters` in the file hold now, and what would be enough to build it?",
        "Save `code_size` and `lr`, and build the parts in `__init__`.",
        "`self.save_hyperparameters()`, then `whole = Autoencoder(code_size)`: its parts are "
        "`whole.encoder` and `whole.decoder`.",
    ),
    takeaway="Save the recipe, not the cake: a few numbers build the system again, and a file of "
    "numbers and tensors is one that others may dare to open.",
    checker=_sized,
)


def trained(data):
    model = Autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loader = data.train_dataloader()
    for _ in range(10):
        for x, _ in loader:
            optimizer.zero_grad()
            F.mse_loss(model(x), x).backward()
            optimizer.step()
    return model.requires_grad_(False)


def cover(x):
    covered = x.clone()
    covered[:, :, 14:] = -MEAN / STD  # black
    return covered


def hidden_error(model, codes, x):
    return F.mse_loss(model.decoder(codes)[:, :, 14:], x[:, :, 14:]).item()


@cache
def _model():
    L.seed_everything(1789, verbose=False)
    return trained(FewDigits(train=2000))


def _completed(complete):
    ask = function(complete, "complete")
    model, theirs = _model(), copy.deepcopy(_model())
    x = torch.cat([x for x, _ in FewDigits(train=2000).val_dataloader()])
    said = values(ask(theirs, cover(x)), "complete", (len(x), 3)).float()
    if not all(map(torch.equal, model.parameters(), theirs.parameters())):
        return wrong("The model's weights have changed: only the codes are yours to move.")
    if not said.isfinite().all():
        return wrong("Some of your codes are no finite numbers. Are the steps too large?")
    own = model.encoder(cover(x))
    base, found = (hidden_error(model, codes, x) for codes in (own, said))
    numbers = f"The hidden half's MSE is {found:.3f}; the encoder's own codes have {base:.3f}"
    if found <= 0.9 * base:
        return right("The hidden half's error is more than a tenth below the encoder's.")
    if torch.allclose(said, own, atol=1e-5):
        return wrong(
            f"{numbers}, and yours are those, unmoved. If you descend: does the optimizer hold the "
            "codes, and do they require a gradient?"
        )
    if len(said.unique(dim=0)) == 1:
        return wrong(f"{numbers}. All your codes are the same: each digit has its own.")
    seen = F.mse_loss(model.decoder(said)[:, :, :14], x[:, :, :14]).item()
    if seen > 0.7:
        return wrong(f"{numbers}. The visible half fits badly, too: {seen:.3f}. Search longer.")
    return wrong(
        f"{numbers}, and the visible half {seen:.3f}. Do you ask the picture to be black where it "
        "is covered? Compare the visible half alone."
    )


q6 = Question(
    number=6,
    kind="explore",
    title="The half that is hidden",
    lesson="02_autoencoder",
    place="section 10, where the decoder draws from any three numbers",
    expects="the function `complete`",
    hints=(
        "Which codes give pictures whose upper half is that of the covered digit?",
        "Three numbers are few. Descend: let an optimizer move the codes, not the weights; or "
        "draw thousands of codes and keep the best.",
        "`codes = model.encoder(covered).requires_grad_()`, Adam on `[codes]` with `lr=0.1`, 100 "
        "steps; the loss is the MSE of `[:, :, :14]`.",
    ),
    takeaway="Gradients can move inputs as well as weights: a decoder can be asked which code "
    "explains what is visible. The first style transfers moved pixels so (lesson 5).",
    checker=_completed,
)


# What q.solution() shows: the answer cells, worked out.
q1.answer = """\
steps = [3, 7]
mean = (60 * 1 + 60 * 1 + 30 * 2) / 150
"""
q2.answer = """\
class LitWatched(LitAutoEncoder):
    def on_before_optimizer_step(self, optimizer):
        gradients = [weight.grad.flatten() for weight in self.parameters()]
        self.log("grad_norm", torch.cat(gradients).norm())
"""
q3.answer = """\
placed = {
    "__init__": "fjh",
    "forward": "bi",
    "training_step": "cg",
    "on_train_epoch_end": "d",
    "configure_optimizers": "a",
    "Trainer": "ek",
}
"""
q4.answer = """\
class LitDenoiser(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = Autoencoder(code_size=8)

    def training_step(self, batch, batch_idx):
        x, _ = batch
        return F.mse_loss(self.model(with_noise(x)), x)

    def validation_step(self, batch, batch_idx):
        x, _ = batch
        self.log("val_loss", F.mse_loss(self.model(with_noise(x)), x))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


flags = {"max_epochs": 4, "check_val_every_n_epoch": 2}
"""
q5.answer = """\
class LitSized(Drawing):
    def __init__(self, code_size, lr):
        super().__init__()
        self.save_hyperparameters()
        whole = Autoencoder(code_size)
        self.encoder, self.decoder = whole.encoder, whole.decoder
"""
q6.answer = """\
def complete(model, covered):
    codes = model.encoder(covered).requires_grad_()
    optimizer = torch.optim.Adam([codes], lr=0.1)
    for _ in range(100):
        drawn = model.decoder(codes)
        loss = F.mse_loss(drawn[:, :, :14], covered[:, :, :14])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return codes
"""
QUESTIONS = [q1, q2, q3, q4, q5, q6]
