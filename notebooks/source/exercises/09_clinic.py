# %% [markdown]
# # Exercises 9. The clinic
#
# {{badge}}
#
# Ten patients for [lesson 9](../09_clinic.ipynb), from gentle to nasty. Each is a raw loop, its port, and a complaint. Every
# port runs, and none raises an error. Mend each: derive a class from the port, and write into it what has to be another.
# All the rest is inherited.
#
# First look by yourself. `q1.first_steps()` shows losses, learning rates, modes and batches of the first steps. If that is not
# enough, `q1.doctor()` asks the port doctor, and `q1.doctor(Mended1)` asks about your own. The check says only whether loop and port are
# equal, from two seeds, until the doctor was asked. `q1.hint()` and `q1.solution()` are there as well.

# %% tags=["setup"]
# {{setup}}

# %%
import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics import Accuracy

from course_utils.exercises import QUIET, accuracy, progress, scoreboard
from course_utils.exercises.lessons.lesson_09 import q1, q2, q3, q4, q5, q6, q7, q8, q9, q10
from course_utils.files import runs_folder
from course_utils.session import start

session = start(42)

# %% tags=["grader"]
import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics import Accuracy

from course_utils.exercises import QUIET, Patient, accuracy
from course_utils.files import runs_folder

# %% [markdown]
# ## What the patients share
#
# A small network with batch norm and dropout, the plainest loop (some patients have one of their own), and a port to start from.
# `flags` are what the port's Trainer is given.


# %% tags=["given"]
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


# %% tags=["given"]
def train_epoch(net, loader, optimizer):
    net.train()
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()


# %% tags=["given"]
class Port(L.LightningModule):
    flags = {"max_epochs": 2}

    def __init__(self, **choices):
        super().__init__()
        self.net = Net(**choices)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return sgd(self.parameters())


# %% [markdown]
# ## 1. The schedule that came late
#
# *"I ported my cosine schedule line by line. The loss is not what it was, and at the end of training the learning rate is where I want it. So it
# cannot be that."*
#
# After issues [5631](https://github.com/Lightning-AI/pytorch-lightning/issues/5631) and [18570](https://github.com/Lightning-AI/pytorch-lightning/issues/18570) of Lightning.


# %% tags=["given"]
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


# %% tags=["given"]
class Port1(Port):
    flags = {"max_epochs": 3}

    def configure_optimizers(self):
        optimizer = sgd(self.parameters())
        return [optimizer], [cosine(optimizer, self.trainer.max_epochs)]


# %% tags=["grader"]
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

# %% [markdown] tags=["worked"]
# The first steps show it: the loop's rate falls from step to step, the port's stands still. A schedule that is returned bare is
# stepped once an epoch. Here that goes together with a length in epochs, so that both ends are right, and all between them is not. Mend
# only the interval, and the whole cosine is over after three *batches*: the two belong together.

# %% tags=["worked"]
print(q1.doctor())


# %%
class Mended1(Port1):
    ...  # what has to be another

    ### BEGIN SOLUTION
    def configure_optimizers(self):
        optimizer = sgd(self.parameters())
        schedule = cosine(optimizer, self.trainer.estimated_stepping_batches)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    ### END SOLUTION


# %%
q1.check(Mended1)
# q1.first_steps()
# q1.doctor()
# q1.hint()
# q1.solution()

# %% [markdown]
# ## 2. Averaged, and averaged again
#
# *"A batch of 64 does not fit any more, so I take two of 32, and halve the loss. It learns as if the learning rate were too small. On two GPUs, one
# batch of 32 each, a friend had the same."* The last batch of an epoch is one alone.
#
# After issues [13243](https://github.com/Lightning-AI/pytorch-lightning/issues/13243) and [19987](https://github.com/Lightning-AI/pytorch-lightning/issues/19987) of Lightning.


# %% tags=["given"]
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


# %% tags=["given"]
class Port2(Port):
    flags = {"max_epochs": 2, "accumulate_grad_batches": 2}

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss / self.flags["accumulate_grad_batches"]


# %% tags=["grader"]
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

# %% [markdown] tags=["worked"]
# The port's losses are half of the loop's. The Trainer divides by itself, as data-parallel training takes the mean over its workers by itself: who
# divides as well has divided twice. Without that, one fault is left. At the end of an epoch one batch is alone, and the Trainer divides it by two
# all the same. The loop divides by what there is.

# %% tags=["worked"]
print(q2.doctor())


# %%
class Mended2(Port2):
    ...  # what has to be another

    ### BEGIN SOLUTION
    def training_step(self, batch, batch_idx):
        loss = Port.training_step(self, batch, batch_idx)
        last = batch_idx + 1 == self.trainer.num_training_batches
        return loss * 2 if last and batch_idx % 2 == 0 else loss

    ### END SOLUTION


# %%
q2.check(Mended2)
# q2.first_steps()
# q2.doctor()
# q2.hint()
# q2.solution()

# %% [markdown]
# ## 3. Looking makes it worse
#
# *"My port trains worse than the loop as soon as I validate, and its accuracy jumps about. I keep the modes of my layers in hand myself, as I froze some
# in another project."*
#
# After [issue 53 of pytorch-3dunet](https://github.com/wolny/pytorch-3dunet/issues/53).


# %% tags=["given"]
def loop3(data):
    net, loader = Net(dropout=0.5), data.train_dataloader()
    optimizer = sgd(net.parameters())
    for _ in range(3):
        train_epoch(net, loader, optimizer)
        val_acc = accuracy(net, data.val_dataloader())  # in evaluation mode
    return val_acc


# %% tags=["given"]
class Port3(Port):
    flags = {"max_epochs": 3}

    def __init__(self):
        super().__init__(dropout=0.5)

    def on_validation_model_eval(self):  # Lightning would change the modes here
        torch.set_grad_enabled(False)

    def validation_step(self, batch, batch_idx):
        hits = self.net(batch[0]).argmax(1) == batch[1]
        self.log("val_acc", hits.float().mean())


# %% tags=["grader"]
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

# %% [markdown] tags=["worked"]
# The first four steps are equal, the fifth is not (`q3.first_steps(5)`): between them lies the first look at the validation digits. The hook that switches to
# evaluation mode is overridden, and switches nothing. So each look moves the running means of batch norm, and draws numbers for dropout that the training
# would have drawn. The doctor sees it even before the first step, as the Trainer looks at two batches to see that it can.

# %% tags=["worked"]
print(q3.first_steps(5))
print(q3.doctor())


# %%
class Mended3(Port3):
    ...  # what has to be another

    ### BEGIN SOLUTION
    def on_validation_model_eval(self):
        self.eval()

    ### END SOLUTION


# %%
q3.check(Mended3)
# q3.first_steps()
# q3.doctor()
# q3.hint()
# q3.solution()

# %% [markdown]
# ## 4. The new head
#
# *"I fine-tune a network that told 26 letters apart. The new head for ten digits comes in before the training. It does learn something, only it stays
# well behind the loop."*
#
# After [issue 16170 of Lightning](https://github.com/Lightning-AI/pytorch-lightning/issues/16170).


# %% tags=["given"]
def loop4(data):
    net, loader = Net(classes=26), data.train_dataloader()
    net.head = nn.Linear(32, 10)
    optimizer = sgd(net.parameters())
    for _ in range(2):
        train_epoch(net, loader, optimizer)


# %% tags=["given"]
class Port4(Port):
    def __init__(self):
        super().__init__(classes=26)

    def on_fit_start(self):
        if self.net.head.out_features != 10:
            self.net.head = nn.Linear(32, 10)


# %% tags=["grader"]
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

# %% [markdown] tags=["worked"]
# Loss, rate, mode and batch of the first step are equal, and the second loss is not: the *update* differs. `configure_optimizers` ran before `on_fit_start`.
# It handed the old head over, which nobody uses any more; the new one is in the network, gets gradients, and never moves. What learns is the
# body below it.

# %% tags=["worked"]
print(q4.doctor())


# %%
class Mended4(Port4):
    ...  # what has to be another

    ### BEGIN SOLUTION
    def configure_model(self):
        if self.net.head.out_features != 10:
            self.net.head = nn.Linear(32, 10)

    ### END SOLUTION


# %%
q4.check(Mended4)
# q4.first_steps()
# q4.doctor()
# q4.hint()
# q4.solution()

# %% [markdown]
# ## 5. Clipped to nothing
#
# *"With 16 bits I need a scaler, and manual optimization. The loop clips at 1, the port clips at 1. The loop learns, the port creeps."*
#
# After [issue 18089 of Lightning](https://github.com/Lightning-AI/pytorch-lightning/issues/18089).


# %% tags=["given"]
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


# %% tags=["given"]
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


# %% tags=["grader"]
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

# %% [markdown] tags=["worked"]
# The gradients are still multiplied by 1024 when they meet the limit of 1. So they are cut to length 1, and the scaler divides what is left by 1024: each
# step is about a thousandth of what it should be. With automatic optimization and `precision="16-mixed"` the Trainer does it in the right order.

# %% tags=["worked"]
print(q5.doctor())


# %%
class Mended5(Port5):
    ...  # what has to be another

    ### BEGIN SOLUTION
    def limit(self, optimizer):
        self.scaler.unscale_(optimizer.optimizer)
        super().limit(optimizer)

    ### END SOLUTION


# %%
q5.check(Mended5)
# q5.first_steps()
# q5.doctor()
# q5.hint()
# q5.solution()

# %% [markdown]
# ## 6. Frozen, but not quite
#
# *"Only the head is to learn, the body is frozen: no gradient, not in the optimizer. When I compare the body's weights before and after, they are the
# same. The accuracy is another one than the loop's."*
#
# After [issue 15062 of Lightning](https://github.com/Lightning-AI/pytorch-lightning/issues/15062).


# %% tags=["given"]
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


# %% tags=["given"]
class Port6(Port):
    def __init__(self):
        super().__init__()
        self.net.body.requires_grad_(False)

    def configure_optimizers(self):
        return sgd(self.net.head.parameters())

    def validation_step(self, batch, batch_idx):
        hits = self.net(batch[0]).argmax(1) == batch[1]
        self.log("val_acc", hits.float().mean())


# %% tags=["grader"]
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

# %% [markdown] tags=["worked"]
# `requires_grad_(False)` stops gradients. The running mean and variance of batch norm are no parameters: they follow each batch as long as the layer
# is in training mode, and in that mode the layer does not even use them. The mode column says `mixed` for the loop, `training` for the port.

# %% tags=["worked"]
print(q6.first_steps(5))
print(q6.doctor())


# %%
class Mended6(Port6):
    ...  # what has to be another

    ### BEGIN SOLUTION
    def on_train_epoch_start(self):
        self.net.body.eval()

    ### END SOLUTION


# %%
q6.check(Mended6)
# q6.first_steps()
# q6.doctor()
# q6.hint()
# q6.solution()

# %% [markdown]
# ## 7. Decay where none should be
#
# *"No decay on biases and norms, as in the loop. I wrote it shorter, by the parameters' names. After a hundred epochs the port is a bit worse. In
# the first steps I see nothing at all."*
#
# After [issue 1402 of PyTorch](https://github.com/pytorch/pytorch/issues/1402).


# %% tags=["given"]
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


# %% tags=["given"]
class Port7(Port):
    def configure_optimizers(self):
        named = list(self.named_parameters())
        decayed = [weight for name, weight in named if not name.endswith("bias")]
        return adamw(decayed, [weight for name, weight in named if name.endswith("bias")])


# %% tags=["grader"]
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

# %% [markdown] tags=["worked"]
# The weight of a norm is called `weight` as well, so it lands in the group that decays. It is pulled from 1 towards 0, by a ten-thousandth of itself at each
# step: the four digits of the first losses do not show it. A rule by shape is safer than one by name: what decays is a matrix, biases and norms are vectors.

# %% tags=["worked"]
print(q7.doctor())


# %%
class Mended7(Port7):
    ...  # what has to be another

    ### BEGIN SOLUTION
    def configure_optimizers(self):
        decayed = [weight for weight in self.parameters() if weight.ndim > 1]
        return adamw(decayed, [weight for weight in self.parameters() if weight.ndim == 1])

    ### END SOLUTION


# %%
q7.check(Mended7)
# q7.first_steps()
# q7.doctor()
# q7.hint()
# q7.solution()

# %% [markdown]
# ## 8. Two optimizers, one mess
#
# *"A forger draws, a judge judges. In my old version of Lightning each had its own call of `training_step`. Now that it is manual I wrote the two steps one
# after the other. The judge never becomes any good."*
#
# After [issue 591 of Lightning](https://github.com/Lightning-AI/pytorch-lightning/issues/591).


# %% tags=["given"]
class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.forger = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 784))
        self.judge = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 1))


def judged(logits, real):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def optimizers_of(pair):
    return [torch.optim.Adam(part.parameters(), lr=1e-3) for part in (pair.forger, pair.judge)]


# %% tags=["given"]
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


# %% tags=["given"]
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


# %% tags=["grader"]
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

# %% [markdown] tags=["worked"]
# The forger's loss passes through the judge, and leaves gradients there that want the judge to be *fooled*. The judge's own step then adds its gradients
# to those. Clearing after the step clears too early: what comes in between stays. Under automatic optimization the other network was hidden meanwhile; in
# manual code nobody does that.

# %% tags=["worked"]
print(q8.doctor())


# %%
class Mended8(Port8):
    ...  # what has to be another

    ### BEGIN SOLUTION
    def descend(self, optimizer, loss):
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    ### END SOLUTION


# %%
q8.check(Mended8)
# q8.first_steps()
# q8.doctor()
# q8.hint()
# q8.solution()

# %% [markdown]
# ## 9. The accuracy that remembers
#
# *"Same seeds, same losses, and my port reports an accuracy twenty points lower. I have looked at the training for two days. Where is the bug?"*
#
# After [issue 269 of torchmetrics](https://github.com/Lightning-AI/torchmetrics/issues/269).


# %% tags=["given"]
def loop9(data):
    net, loader = Net(), data.train_dataloader()
    optimizer = sgd(net.parameters())
    for _ in range(3):
        train_epoch(net, loader, optimizer)
        val_acc = accuracy(net, data.val_dataloader())
    return val_acc


# %% tags=["given"]
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


# %% tags=["grader"]
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

# %% [markdown] tags=["worked"]
# The doctor says *identical*, and that is the find: the training is right, so the fault is in the measuring. The metric is reset once, at the end of all. Until then
# it keeps the hits of every epoch, and of the Trainer's first look, when the network knew nothing. What it says is the accuracy of a whole life. (Hand
# `self.log` the metric itself, as in lesson 1, and Lightning resets it.)

# %% tags=["worked"]
print(q9.doctor())


# %%
class Mended9(Port9):
    ...  # what has to be another

    ### BEGIN SOLUTION
    def on_validation_epoch_end(self):
        self.log("val_acc", self.val_acc.compute())
        self.val_acc.reset()

    ### END SOLUTION


# %%
q9.check(Mended9)
# q9.first_steps()
# q9.doctor()
# q9.hint()
# q9.solution()

# %% [markdown]
# ## 10. The file that forgot
#
# *"It trains as the loop does, and after loading the checkpoint its loss is another one. The weights in the file are right, I compared each of them."*
#
# After [issue 3364 of Lightning](https://github.com/Lightning-AI/pytorch-lightning/issues/3364).


# %% tags=["given"]
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


# %% tags=["given"]
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


# %% tags=["grader"]
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

# %% [markdown] tags=["worked"]
# Again *identical*: the training is right. `load_from_checkpoint` builds a new object, and has to know how. The file has the weights; the slope is no weight, and nobody
# kept it. So `__init__` falls back to its default, and says nothing, because every weight fits. Ask of each choice in `__init__` how it gets into the file.

# %% tags=["worked"]
print(q10.doctor())


# %%
class Mended10(Port10):
    ...  # what has to be another

    ### BEGIN SOLUTION
    def __init__(self, slope: float = 0.0):
        super().__init__(slope=slope)
        self.save_hyperparameters()

    ### END SOLUTION


# %%
q10.check(Mended10)
# q10.first_steps()
# q10.doctor()
# q10.hint()
# q10.solution()

# %% [markdown]
# ## The scoreboard
#
# Who is mended, and how the fault was found. (In the worked notebook the doctor was asked each time.)

# %%
scoreboard(q1, q2, q3, q4, q5, q6, q7, q8, q9, q10)

# %% [markdown]
# ## What is solved
#
# Kept in `progress.json` beside the notebooks; deleting it harms nothing.

# %% tags=["learner"]
progress()
