"""The questions of lesson 9. Built from exercises/09_clinic.py: never edit."""

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics import Accuracy

from course_utils.exercises import QUIET, Patient, accuracy
from course_utils.files import runs_folder


class Net(nn.Module):
    def __init__(self, classes: int = 10, slope: float = 0.0, dropout: float = 0.0):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.BatchNorm1d(32))
        self.slope, self.dropout = slope, nn.Dropout(dropout)
        self.head = nn.Linear(32, classes)

    def forward(self, x):
        return self.head(self.dropout(F.leaky_relu(self.body(x), self.slope)))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def train_epoch(net, loader, optimizer):
    net.train()
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()


class Port(L.LightningModule):
    flags = {"max_epochs": 2}

    def __init__(self, **choices):
        super().__init__()
        self.net = Net(**choices)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return sgd(self.parameters())


def cosine(optimizer, length):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=length)


def loop1(data):
    net, loader = Net(), data.train_dataloader()
    optimizer = sgd(net.parameters())
    schedule = cosine(optimizer, 3 * len(loader))
    for _ in range(3):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
            schedule.step()


class Port1(Port):
    flags = {"max_epochs": 3}

    def configure_optimizers(self):
        optimizer = sgd(self.parameters())
        return [optimizer], [cosine(optimizer, self.trainer.max_epochs)]


q1 = Patient(
    number=1,
    title="The schedule that came late",
    place="section 1, the learning rate",
    hints=(
        "Look at the learning rates of the first steps.",
        "How often is a schedule stepped that `configure_optimizers` returns without "
        "saying so? And in which unit is its length?",
        '`{"scheduler": schedule, "interval": "step"}`, and its length is '
        "`self.trainer.estimated_stepping_batches`.",
    ),
    takeaway="A schedule has a rhythm and a length, and the two are in the same unit: change one, "
    "and look at the other.",
    loop=loop1,
    port=Port1,
)


def loop2(data):
    net, loader = Net(), data.train_dataloader()
    optimizer = sgd(net.parameters())
    for _ in range(2):
        batches = list(loader)
        for first in range(0, len(batches), 2):
            pair = batches[first : first + 2]
            optimizer.zero_grad()
            for x, y in pair:
                (F.cross_entropy(net(x), y) / len(pair)).backward()
            optimizer.step()


class Port2(Port):
    flags = {"max_epochs": 2, "accumulate_grad_batches": 2}

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss / self.flags["accumulate_grad_batches"]


q2 = Patient(
    number=2,
    title="Averaged, and averaged again",
    place="section 1, the cheap evidence",
    hints=(
        "Look at the losses of the first steps. By which factor are they apart?",
        "Who else divides by the number of batches that make a step? When that is "
        "settled: how many batches does the last step of an epoch have?",
        "The Trainer divides by `accumulate_grad_batches`, always by 2. Return the loss "
        "as it is, and twice the loss for a last batch that is alone.",
    ),
    takeaway="Find out who averages, over how many, and let nobody do it twice: batches of a step, "
    "workers, or tokens.",
    loop=loop2,
    port=Port2,
    batch_size=32,
)


def loop3(data):
    net, loader = Net(dropout=0.5), data.train_dataloader()
    optimizer = sgd(net.parameters())
    for _ in range(3):
        train_epoch(net, loader, optimizer)
        val_acc = accuracy(net, data.val_dataloader())  # in evaluation mode
    return val_acc


class Port3(Port):
    flags = {"max_epochs": 3}

    def __init__(self):
        super().__init__(dropout=0.5)

    def on_validation_model_eval(self):  # Lightning would change the modes here
        torch.set_grad_enabled(False)

    def validation_step(self, batch, batch_idx):
        hits = self.net(batch[0]).argmax(1) == batch[1]
        self.log("val_acc", hits.float().mean())


q3 = Patient(
    number=3,
    title="Looking makes it worse",
    place="section 1, the modes",
    hints=(
        "Four steps make an epoch: look at five, `q3.first_steps(5)`. What runs between "
        "the fourth and the fifth?",
        "In which mode does the port look at the validation digits, and what do dropout "
        "and batch norm do in that mode?",
        "`on_validation_model_eval` is the hook that puts the network into evaluation "
        "mode: let it call `self.eval()`.",
    ),
    takeaway="Looking must not touch: evaluation mode for the layers, and no random number from "
    "where the training draws its own.",
    loop=loop3,
    port=Port3,
)


def loop4(data):
    net, loader = Net(classes=26), data.train_dataloader()
    net.head = nn.Linear(32, 10)
    optimizer = sgd(net.parameters())
    for _ in range(2):
        train_epoch(net, loader, optimizer)


class Port4(Port):
    def __init__(self):
        super().__init__(classes=26)

    def on_fit_start(self):
        if self.net.head.out_features != 10:
            self.net.head = nn.Linear(32, 10)


q4 = Patient(
    number=4,
    title="The new head",
    place="section 1, step 5",
    hints=(
        "The first loss is equal, the second is not. Which weights did the first step change?",
        "Which comes first, `configure_optimizers` or `on_fit_start`? Whose weights does "
        "the optimizer have?",
        "Put the new head in before the optimizer is built: in `configure_model`, or in "
        "`__init__`.",
    ),
    takeaway="An optimizer holds the weights that there were when it was built. Build it last.",
    loop=loop4,
    port=Port4,
)


def scaled_loss(net, scaler, x, y):
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(net(x), y)
    return scaler.scale(loss)


def loop5(data):
    net, loader = Net(), data.train_dataloader()
    optimizer = sgd(net.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for _ in range(2):
        for x, y in loader:
            optimizer.zero_grad()
            scaled_loss(net, scaler, x, y).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()


class Port5(Port):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(scaled_loss(self.net, self.scaler, *batch))
        self.limit(optimizer)
        self.scaler.step(optimizer.optimizer)
        self.scaler.update()

    def limit(self, optimizer):
        self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm="norm")


q5 = Patient(
    number=5,
    title="Clipped to nothing",
    place="section 1, step 5",
    hints=(
        "The first loss is equal, the second hardly moves in the port. How long is its first step?",
        "Which length does the gradient have when the port clips it, and which when the loop does?",
        "`self.scaler.unscale_(optimizer.optimizer)` belongs before the clipping.",
    ),
    takeaway="A limit has a unit. Clip what the optimizer will use: after the scaler's factor is "
    "out, after `backward`.",
    loop=loop5,
    port=Port5,
)


def loop6(data):
    net, loader = Net(), data.train_dataloader()
    net.body.requires_grad_(False)
    optimizer = sgd(net.head.parameters())
    for _ in range(2):
        net.train()
        net.body.eval()
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    return accuracy(net, data.val_dataloader())


class Port6(Port):
    def __init__(self):
        super().__init__()
        self.net.body.requires_grad_(False)

    def configure_optimizers(self):
        return sgd(self.net.head.parameters())

    def validation_step(self, batch, batch_idx):
        hits = self.net(batch[0]).argmax(1) == batch[1]
        self.log("val_acc", hits.float().mean())


q6 = Patient(
    number=6,
    title="Frozen, but not quite",
    place="section 1, the modes",
    hints=(
        "Look at the modes.",
        "What does batch norm keep that is no parameter, and when does it change?",
        "Call `self.net.body.eval()` in `on_train_epoch_start`.",
    ),
    takeaway="To freeze is two things: no gradients for the parameters, and evaluation mode for "
    "layers that learn without gradients.",
    loop=loop6,
    port=Port6,
)


def adamw(decayed, others):
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-3)


def loop7(data):
    net, loader = Net(), data.train_dataloader()
    linear, norm = net.body[1], net.body[2]
    others = [linear.bias, norm.weight, norm.bias, net.head.bias]
    optimizer = adamw([linear.weight, net.head.weight], others)
    for _ in range(2):
        train_epoch(net, loader, optimizer)


class Port7(Port):
    def configure_optimizers(self):
        named = list(self.named_parameters())
        decayed = [weight for name, weight in named if not name.endswith("bias")]
        return adamw(decayed, [weight for name, weight in named if name.endswith("bias")])


q7 = Patient(
    number=7,
    title="Decay where none should be",
    place="section 1, step 4",
    hints=(
        "The losses tell nothing here. Which parameter is in which group?",
        "What are the two parameters of batch norm called?",
        "Decay what has more than one dimension: `weight.ndim > 1`.",
    ),
    takeaway="Look into the groups of an optimizer before the first step: names promise, "
    "`param_groups` tell.",
    loop=loop7,
    port=Port7,
)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.forger = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 784))
        self.judge = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 1))


def judged(logits, real):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def optimizers_of(pair):
    return [torch.optim.Adam(part.parameters(), lr=1e-3) for part in (pair.forger, pair.judge)]


def loop8(data):
    pair, loader = Pair(), data.train_dataloader()
    forging, judging = optimizers_of(pair)
    for _ in range(2):
        for x, _ in loader:
            forged = pair.forger(torch.randn(len(x), 8))
            forging.zero_grad()
            judged(pair.judge(forged), real=True).backward()
            forging.step()
            judging.zero_grad()
            real, fake = pair.judge(x), pair.judge(forged.detach())
            (judged(real, real=True) + judged(fake, real=False)).backward()
            judging.step()


class Port8(L.LightningModule):
    flags = {"max_epochs": 2}

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.pair = Pair()

    def training_step(self, batch, batch_idx):
        (x, _), (forging, judging) = batch, self.optimizers()
        forged = self.pair.forger(torch.randn(len(x), 8))
        self.descend(forging, judged(self.pair.judge(forged), real=True))
        real, fake = self.pair.judge(x), self.pair.judge(forged.detach())
        self.descend(judging, judged(real, real=True) + judged(fake, real=False))

    def descend(self, optimizer, loss):
        self.manual_backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    def configure_optimizers(self):
        return optimizers_of(self.pair)


q8 = Patient(
    number=8,
    title="Two optimizers, one mess",
    place="section 1, step 5",
    hints=(
        "The first two steps have equal losses, the third has not: so the second step, "
        "the judge's first, was another one.",
        "Whose gradients does `backward` on the forger's loss fill, and who clears them?",
        "`zero_grad` belongs right before the `backward` of the same optimizer.",
    ),
    takeaway="`zero_grad`, `backward`, `step`, in this order for each optimizer: then nothing of "
    "another loss can be left over.",
    loop=loop8,
    port=Port8,
    model="Pair",
)


def loop9(data):
    net, loader = Net(), data.train_dataloader()
    optimizer = sgd(net.parameters())
    for _ in range(3):
        train_epoch(net, loader, optimizer)
        val_acc = accuracy(net, data.val_dataloader())
    return val_acc


class Port9(Port):
    flags = {"max_epochs": 3}

    def __init__(self):
        super().__init__()
        self.val_acc = Accuracy("multiclass", num_classes=10)

    def validation_step(self, batch, batch_idx):
        self.val_acc.update(self.net(batch[0]), batch[1])

    def on_validation_epoch_end(self):
        self.log("val_acc", self.val_acc.compute())

    def on_fit_end(self):
        self.val_acc.reset()


q9 = Patient(
    number=9,
    title="The accuracy that remembers",
    place="section 1, step 4, and section 3",
    hints=(
        "Ask whether the *weights* differ at all, before you look for the reason.",
        "They do not. How many digits has the metric counted when it reports for the third time?",
        "Reset the metric after each `compute()`.",
    ),
    takeaway="`identical` is a find, too: it sends you from the training to the measuring.",
    loop=loop9,
    port=Port9,
)


@torch.no_grad()
def loss_of(net, data):
    net.eval()
    x, y = next(iter(data.val_dataloader()))
    return F.cross_entropy(net(x), y).item()


def loop10(data):
    net, loader = Net(slope=0.5), data.train_dataloader()
    optimizer = sgd(net.parameters())
    for _ in range(2):
        train_epoch(net, loader, optimizer)
    again = Net(slope=0.5)
    again.load_state_dict(net.state_dict())
    return loss_of(again, data)


class Port10(Port):
    def __init__(self, slope: float = 0.0):
        super().__init__(slope=slope)


def fit_and_load(port, data):
    lit, trainer = port(slope=0.5), L.Trainer(**{**QUIET, **port.flags})
    trainer.fit(lit, data.train_dataloader())
    file = runs_folder("clinic") / "last.ckpt"
    trainer.save_checkpoint(file)
    again = port.load_from_checkpoint(file)
    return loss_of(again.net, data)


q10 = Patient(
    number=10,
    title="The file that forgot",
    place="section 1, step 4, and section 3",
    hints=(
        "Is it the training, or what comes after it?",
        "What does `load_from_checkpoint` give to `__init__`?",
        "`self.save_hyperparameters()` in `__init__` puts its arguments into the file.",
    ),
    takeaway="A checkpoint holds weights, and only what you put in beside them. Load one, and "
    "compare what it *does*.",
    loop=loop10,
    port=Port10,
    run=fit_and_load,
)


# What q.solution() shows: the answer cells, worked out.
q1.answer = """\
class Mended1(Port1):
    ...  # what has to be another

    def configure_optimizers(self):
        optimizer = sgd(self.parameters())
        schedule = cosine(optimizer, self.trainer.estimated_stepping_batches)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]
"""
q2.answer = """\
class Mended2(Port2):
    ...  # what has to be another

    def training_step(self, batch, batch_idx):
        loss = Port.training_step(self, batch, batch_idx)
        last = batch_idx + 1 == self.trainer.num_training_batches
        return loss * 2 if last and batch_idx % 2 == 0 else loss
"""
q3.answer = """\
class Mended3(Port3):
    ...  # what has to be another

    def on_validation_model_eval(self):
        self.eval()
"""
q4.answer = """\
class Mended4(Port4):
    ...  # what has to be another

    def configure_model(self):
        if self.net.head.out_features != 10:
            self.net.head = nn.Linear(32, 10)
"""
q5.answer = """\
class Mended5(Port5):
    ...  # what has to be another

    def limit(self, optimizer):
        self.scaler.unscale_(optimizer.optimizer)
        super().limit(optimizer)
"""
q6.answer = """\
class Mended6(Port6):
    ...  # what has to be another

    def on_train_epoch_start(self):
        self.net.body.eval()
"""
q7.answer = """\
class Mended7(Port7):
    ...  # what has to be another

    def configure_optimizers(self):
        decayed = [weight for weight in self.parameters() if weight.ndim > 1]
        return adamw(decayed, [weight for weight in self.parameters() if weight.ndim == 1])
"""
q8.answer = """\
class Mended8(Port8):
    ...  # what has to be another

    def descend(self, optimizer, loss):
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
"""
q9.answer = """\
class Mended9(Port9):
    ...  # what has to be another

    def on_validation_epoch_end(self):
        self.log("val_acc", self.val_acc.compute())
        self.val_acc.reset()
"""
q10.answer = """\
class Mended10(Port10):
    ...  # what has to be another

    def __init__(self, slope: float = 0.0):
        super().__init__(slope=slope)
        self.save_hyperparameters()
"""
QUESTIONS = [q1, q2, q3, q4, q5, q6, q7, q8, q9, q10]
