# %% [markdown]
# # 9. The clinic
#
# {{badge}}
#
# > Ports that run, raise nothing, and are wrong: a method to find out why, ten patients to mend, and what no comparison can see.
#
# Somebody moves a loop to Lightning. It runs, and the log shows the learning rate that was asked for. Only the network learns more slowly than it
# did. Nothing in the log says why. The log is the trouble: it holds what somebody *wrote* there, and the optimizer has never heard of it. Here
# you learn a method that ends with:
#
# ```text
# Diagnosis: other learning rate
# Evidence: the loop: 0.003; the port: 0.001
# ```
#
# It gets harder. Of the ten patients of this lesson two are identical to their loops in every weight, and their users are right to complain.
#
# At the end of this lesson you will
# - have a method of seven steps for a port that does not do what its loop does;
# - have mended up to ten ports, each after trouble that people reported in public, and proved each of them well;
# - know three faults that are identical on both sides, and one that rounding hides, and what to check beside the doctor;
# - have a notebook for your own patient, with a checklist that runs.
#
# **Time**: about 1 minute of computing on a laptop, with full MNIST or with the sample; an evening for the patients.
#
# **Builds on**: lessons [1](01_mlp.ipynb) and [4](04_one_flag_at_a_time.ipynb).

# %% tags=["setup"]
# {{setup}}

# %%
from itertools import chain, islice, repeat

import lightning as L
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from course_utils.digits import MNISTDataModule, ShuffleSampler, seeded
from course_utils.exercises import accuracy, first_steps
from course_utils.models import MLP
from course_utils.parity import compare, trace
from course_utils.session import start
from course_utils.views import plots

session = start(42)
device = session.device

# %% [markdown]
# ## 1. The method, on one patient
#
# ### Step 1: read the complaint
#
# *"I moved my loop to Lightning. The log shows the learning rate that I asked for, 0.003. But it learns more slowly than the loop, so it must be the
# Trainer."* (After [issue 15856](https://github.com/Lightning-AI/pytorch-lightning/issues/15856) of Lightning.)
#
# A complaint holds two things: what was *seen* (it learns more slowly), and what somebody *believes* (the rate is 0.003, it is the Trainer). Keep them apart.


# %%
def by_hand(model, loader, epochs=1):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(epochs):
        for x, y in loader:
            loss = F.cross_entropy(model(x.to(device)), y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


# %%
class Patient(L.LightningModule):
    def __init__(self, lr: float = 0.003):
        super().__init__()
        self.save_hyperparameters()
        self.model = MLP()

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.model(x), y)
        self.log_dict({"train_loss": loss, "lr": self.hparams.lr})
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


# %% [markdown]
# ### Step 2: list what could cause it
#
# Before you look. Slower learning from the same code: a smaller rate, a schedule, gradients divided or clipped, part of the weights left out, other batches,
# a layer in the wrong mode, another start. Seven suspects. Looking costs nothing when one knows what for.
#
# ### Step 3: make both runs short, and start them alike
#
# Twenty batches are enough to see something. Seed, then model, then loader, in the same order on both sides.

# %%
hardware = dict(accelerator=session.accelerator, devices=1)
quiet = dict(logger=False, enable_checkpointing=False, enable_model_summary=False)
quiet |= dict(enable_progress_bar=False, limit_val_batches=0)


def loaders():
    datamodule = MNISTDataModule()
    datamodule.setup()
    return datamodule


def first_batches(steps):  # over as many epochs as it takes
    return islice(chain.from_iterable(repeat(loaders().train_dataloader())), steps)


# %%
def run_loop(train=by_hand, steps=20):
    L.seed_everything(42, verbose=False)
    model = MLP().to(device)
    with trace(model) as record:
        train(model, first_batches(steps))
    return record


# %%
def run_port(system=Patient, steps=20):
    L.seed_everything(42, verbose=False)
    lit = system()
    trainer = L.Trainer(**hardware, **quiet, max_steps=steps)
    with trace(lit.model) as record:
        trainer.fit(lit, loaders().train_dataloader())
    return record, trainer


# %%
loop = run_loop()
port, trainer = run_port()
print("lr in the log:", round(trainer.callback_metrics["lr"].item(), 4))

# %% [markdown]
# The log agrees with its user. Do the losses agree with the complaint? Two curves over the twenty steps; the port's should fall more slowly.

# %%
losses = {"the loop": loop.losses, "the port": port.losses}
plots.lines(range(1, 21), losses, x="optimizer step", y="loss")

# %% [markdown]
# It does, so something is wrong. More a curve cannot say: slower learning looks the same whatever the reason.
#
# ### Step 4: look at what costs nothing
#
# Loss, learning rate, mode and batch, of the first three steps. The batch is shown by the first digits of its fingerprint. `first_steps` reads them off the
# two records that `trace` has made: the rate is the one *in the optimizer*, not the one in the log.

# %% [markdown] tags=["question"]
# The port learns too slowly from its first step on. At which step do the *losses* first differ?
#
# - At step 1
#   if: one != two
#   The loss of step 1 is computed before anything was learned. Weights and batch are the same, so it is, too.
# + At step 2
#   if: one == two and three != four
#   The first step moves the weights otherwise, and the second loss is the first to feel it. An equal first loss clears the start, the first batch, and the loss itself.
# - Later: so small a difference takes time
#   if: one == two and three == four
#   For the eye, in a curve, yes. In the numbers it is there as soon as one step was taken.
#
# read: \n1 +the loop +(?P<one>[\d.]+)
# read: \n1 +the port +(?P<two>[\d.]+)
# read: \n2 +the loop +(?P<three>[\d.]+)
# read: \n2 +the port +(?P<four>[\d.]+)

# %%
print(first_steps(loop, port))

# %% [markdown]
# Four suspects are cleared at one glance: the batches are equal, the modes are, and so is the first loss, so that start and loss function are the
# same as well. Only the rate is not. The other columns matter as much as that one: what is *equal* ends most of the search.
#
# ### Step 5: ask the doctor
#
# It reads the same records, and more of them: every gradient, every weight, the groups of the optimizer, the order of events.

# %%
report = compare(loop, port, names=("the loop", "the port"))
print(report)

# %% [markdown]
# ### Step 6: understand why
#
# The fault has to explain *all* of the complaint, or it is not the only one. `self.hparams.lr` is 0.003, and it is logged. `Adam(self.parameters())` does not
# ask for it, and takes its own default, 0.001. So the log was right about the wish, and the network learned at a third of it.
#
# ### Step 7: mend, and prove
#
# One line, and the same comparison again. A proof holds for the steps that it saw: for a port of your own, let it go over an end of an epoch as well.


# %%
class Mended(Patient):
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


# %% tags=["verdict"]
# NBVAL_CHECK_OUTPUT
report = compare(run_loop(), run_port(Mended)[0], names=("the loop", "the port"))
report.assert_identical()
print(report.verdict)

# %% [markdown]
# The seven steps, to keep: **read** the complaint, **list** the causes, **shorten** both runs, **look**, **ask** the doctor, **understand**, **mend and prove**.
# Who skips the second sees in step 4 what he expected. Who skips the sixth mends what he saw, and not what was wrong.

# %% [markdown]
# ## 2. The ward
#
# Ten patients wait in the [exercises](exercises/09_clinic.ipynb), from gentle to nasty. Each has a loop, a port and a complaint, and follows trouble that people
# reported in public, in code written anew. Here they only run, so that you see what you are up against.
#
# | | title | what its user sees |
# |---|---|---|
# | 1 | The schedule that came late | the rate ends where it should, the loss does not |
# | 2 | Averaged, and averaged again | learns as if the rate were too small |
# | 3 | Looking makes it worse | worse as soon as it validates |
# | 4 | The new head | learns, and stays behind |
# | 5 | Clipped to nothing | creeps |
# | 6 | Frozen, but not quite | the frozen weights are equal, the accuracy is not |
# | 7 | Decay where none should be | a bit worse after a hundred epochs |
# | 8 | Two optimizers, one mess | one of two networks never becomes any good |
# | 9 | The accuracy that remembers | same losses, a lower accuracy |
# | 10 | The file that forgot | worse after loading |

# %% [markdown] tags=["question"]
# Ten ports that do the wrong thing. For how many of them does the doctor find *no* difference to the loop?
#
# - None: it compares every gradient and every weight, so it finds every fault
#   if: identical == 0
#   Every fault of the *training*. There are others.
# + Two
#   if: identical == 2
#   These two compute each weight as their loops do, and still report another number. For them "identical" is the find: the training is right, so look at the measuring.
# - All: each runs without an error
#   if: identical == 10
#   An error is what Python cannot do. All ten do something. Just not what was meant.
#
# read: identical: (?P<identical>\d+) of 10

# %% tags=["result"]
from course_utils.exercises.lessons.lesson_09 import QUESTIONS

said = [patient.check(patient.port).text for patient in QUESTIONS]
print(f"identical: {sum('part at' not in text for text in said)} of {len(said)}")
for number, text in enumerate(said, start=1):
    print(f"patient {number:>2}: {text.split('. ')[0]}")

# %% [markdown]
# The check of a patient says no more than this: whether loop and port are equal, and if not, at which step they part. `q3.first_steps()` shows the cheap
# evidence, `q3.doctor()` asks the doctor, `q3.hint()` helps. The scoreboard at the end counts who was found by eye, and who with the doctor. Try the eye first.

# %% [markdown]
# ## 3. What the doctor cannot see
#
# `identical` says that two runs computed the same. Not that it was the right thing. Three cases, each with the same fault in loop and port.
#
# ### The loop had the bug
#
# Both sides take the softmax themselves, and hand the result to `cross_entropy`, which takes it once more.


# %%
def softened(model, loader, epochs=1):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(epochs):
        for x, y in loader:
            loss = F.cross_entropy(model(x.to(device)).softmax(1), y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


class Softened(Mended):
    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.model(x).softmax(1), y)


# %%
# NBVAL_CHECK_OUTPUT
print(compare(run_loop(softened), run_port(Softened)[0]).verdict)

# %% [markdown]
# Identical, and both wrong. What finds it is no comparison but a question to *one* run: can it learn ten digits by heart? Any network of this size can, and its
# loss then goes to zero. If it stops above that, something lies between the network and its loss.

# %% [markdown] tags=["question"]
# Ten digits, trained on 300 times. Where does the loss of the network with the second softmax end?
#
# - Near 0, as with the right loss: it has learned them all
#   if: softened < 0.1
#   It says the right digit for each of them. But its loss is computed from probabilities, taken for logits: between 0 and 1, they are never far apart.
# + Near 1.46
#   if: 1.4 < softened < 1.6
#   At best one logit is 1 and nine are 0. Softmax of that gives the right digit 0.23, and minus the logarithm of 0.23 is 1.46. A loss with such a floor is a sign.
# - At 2.30: it learns nothing
#   if: softened > 2.2
#   It does learn, and that is what makes it hard to see.
#
# read: softmax twice: +(?P<softened>[\d.]+)

# %%
x, y = (part[10:20] for part in next(iter(loaders().train_dataloader())))


def learned_by_heart(train, soften):
    L.seed_everything(42, verbose=False)
    model = MLP().to(device)
    train(model, [(x, y)], epochs=300)
    logits = model(x.to(device))
    return F.cross_entropy(logits.softmax(1) if soften else logits, y.to(device)).item()


print(f"as it should be: {learned_by_heart(by_hand, False):.2f}")
print(f"softmax twice:   {learned_by_heart(softened, True):.2f}")

# %% [markdown]
# ### The digits leaked
#
# A data set is made larger by copies, each digit once more, shifted by one pixel. *Then* it is split. Any loop and its port agree on such data, bit for bit. Of how
# many validation digits has the training seen the twin?

# %%
digits = loaders()
originals, labels = digits.train[:1_000]
shifted = originals.roll(1, dims=3)
doubled = TensorDataset(torch.cat([originals, shifted]), labels.repeat(2))
train, held_back = random_split(doubled, [1_500, 500], generator=seeded(42))


def leaky_batches():
    shuffled = ShuffleSampler(train, seeded(42))
    return DataLoader(train, batch_size=50, sampler=shuffled, generator=seeded(42))


# %%
# NBVAL_CHECK_OUTPUT
twin = {(index + 1_000) % 2_000 for index in train.indices}
seen = sum(index in twin for index in held_back.indices)
print(f"{seen} of {len(held_back)} validation digits have their twin in the training")

# %% [markdown] tags=["question"]
# The network trains on the 1,500 until it knows them. Its accuracy on the 500 that were held back, and on test digits: which is higher?
#
# - The same, but for chance: neither was trained on
#   if: abs(held - test) < 1
#   Their *twins* were, three of four. A digit that is shifted by one pixel is not a new digit.
# + On those held back, by several points
#   if: held - test >= 1
#   That accuracy measures memory. The split belongs before the copies; and a test set that nobody touched until the end tells.
# - On the test digits
#   if: test - held >= 1
#   There is no reason for that: of the test digits, nothing was seen.
#
# read: held back: (?P<held>[\d.]+)%
# read: test: +(?P<test>[\d.]+)%

# %%
L.seed_everything(42, verbose=False)
model = MLP().to(device)
with trace(model) as raw:
    by_hand(model, leaky_batches(), epochs=10)
print(f"held back: {accuracy(model.cpu(), DataLoader(held_back, 500)):.1%}")
print(f"test:      {accuracy(model.cpu(), digits.test_dataloader()):.1%}")

# %% [markdown]
# And the port? It sees the same twins in the same order, and what it computes is the same to the last bit.

# %%
# NBVAL_CHECK_OUTPUT
L.seed_everything(42, verbose=False)
lit = Mended()
with trace(lit.model) as port:
    L.Trainer(**hardware, **quiet, max_epochs=10).fit(lit, leaky_batches())
print(compare(raw, port).verdict)

# %% [markdown]
# ### The metric lies
#
# "Is it an 8?" A detector is trained, by hand and by its port, and both report their accuracy on the test digits.


# %%
def detect(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for x, y in loader:
        loss = F.cross_entropy(model(x.to(device)), (y == 8).long().to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Detecting(Mended):
    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.model(x), (y == 8).long())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


# %%
port, trainer = run_port(Detecting, steps=50)
print(compare(run_loop(detect, steps=50), port).verdict)
detector = trainer.lightning_module.model.cpu().eval()
says_eight = detector(digits.test.images).argmax(1) == 1
is_eight = digits.test.labels == 8
print(f"accuracy: {(says_eight == is_eight).float().mean():.1%}")

# %% [markdown]
# Identical, and nine of ten right. Before you believe a metric, ask what a *constant* answer reaches; here that is "no, never". And count what was to be found.

# %%
print(f"accuracy of always 'no': {(~is_eight).float().mean():.1%}")
print(f"eights found:            {(says_eight & is_eight).sum()} of {is_eight.sum()}")

# %% [markdown]
# The detector has learned to say no. Nine of ten digits are no 8, so that is right nine times of ten. Recall, precision, or the confusion matrix of lesson 1 say so at once. The two
# runs would have agreed on it for ever.

# %% [markdown]
# ### Rounding hides it, for a while
#
# The loop has a penalty on large weights, which is warmed up: it grows with the square of the step. The port forgot it. At first the penalty is so small that it changes no
# more than the last digits of a gradient, as another order of adding up would.


# %%
def with_penalty(model, loader, strength=3e-3):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step, (x, y) in enumerate(loader, start=1):
        loss = F.cross_entropy(model(x.to(device)), y.to(device))
        if strength:
            squares = sum(weight.square().sum() for weight in model.parameters())
            loss = loss + strength * (step / 1_000) ** 2 * squares
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def without_penalty(model, loader):
    with_penalty(model, loader, strength=0)


# %% [markdown] tags=["question"]
# Loop and port are compared over 50 steps. The penalty is there from step 1 on. What is the verdict?
#
# - identical
#   if: "50 steps: identical" in text
#   Then not a bit would differ. The penalty changes the last bits of some gradients.
# + equal within rounding
#   if: "50 steps: equal within rounding" in text
#   By their size alone, these differences are rounding. The verdict is true of fifty steps, and no promise for more.
# - different
#   if: "50 steps: different" in text
#   The doctor never guesses. As long as a difference is as small as rounding, and does not grow faster, it says that.
#
# read: 50 steps: (?P<verdict>.+)

# %%
reports = {}
for steps in (50, 200):
    pair = run_loop(with_penalty, steps), run_loop(without_penalty, steps)
    reports[steps] = compare(*pair, names=("with penalty", "without"))
    print(f"{steps} steps: {reports[steps].verdict}, {reports[steps].diagnosis.name}")

# %% [markdown]
# After 200 steps there is no doubt any more. And the first report was no dead end for those who read it to the end:

# %%
print(*reports[50].diagnosis.evidence, sep="\n")

# %% [markdown]
# *Equal within rounding needs a reason*: another device, other threads, another formula for the same sum. Here the reason that it names is the penalty itself: operations that only one
# side has. Is that reason a good one? If not, or if there is none, look for the fault, and run longer. Two runs of one program have no right to differ in a single bit.

# %% [markdown]
# ### What else to check
#
# | what the doctor cannot see | what shows it |
# |---|---|
# | a bug in both | learn ten digits by heart; the first loss against ln 10 |
# | a leak | compare with data that nobody touched; look for twins |
# | a metric that lies | the constant answer; count by hand on a few digits |
# | a fault below rounding | ask for the reason of the rounding; run longer |
# | what was measured otherwise | compare the *reports* of two identical runs, too |

# %% [markdown]
# ## 4. Your own patient
#
# [`your_port.ipynb`](your_port.ipynb) is a notebook to fill in: paste your loop, paste your port, run it, read the report. Before it compares it runs a checklist of what has
# to be true before two runs *can* be equal: seeds, building order, batches, dropout, threads, device, deterministic algorithms, `torch.compile`. Here it is, on the mended patient.

# %%
from course_utils.parity import checklist


def begin_by_hand():
    L.seed_everything(42, verbose=False)
    by_hand(MLP().to(device), loaders().train_dataloader())


checklist(begin_by_hand, lambda: run_port(Mended), model=MLP)

# %% [markdown]
# It takes three steps of each run, twice, and ends them there. A cross is a reason why your two runs will differ whatever the port does: mend it first. A dash is what cannot be
# checked by code, or does not apply.
#
# ## Recap
#
# 1. Read, list, shorten, look, ask, understand, mend and prove: seven steps, in this order.
# 2. What is equal ends most of the search: an equal first loss clears start, batch and loss function.
# 3. A log shows what somebody wrote there. Ask the optimizer, the modes, the batches themselves.
# 4. `identical` beside a complaint is a find: the training is right, look at the measuring.
# 5. Two equal runs can both be wrong: learn ten digits by heart, keep untouched data, know the constant answer.
#
# ## Common mistakes
#
# - **Mending what was seen**: the second fault of a patient shows only when the first is gone. Prove after each mend.
# - **Comparing curves**: two wrong curves look as alike as two right ones. Compare the first steps, in numbers.
# - **Two changes at once**: when it works, nobody knows which one it was.
# - **A proof that is too short**: let it pass an end of an epoch, a last batch that is not full, and a validation.
#
# ## Exercises
#
# Ten patients, each with its check, and a scoreboard: [the ward](exercises/09_clinic.ipynb).
#
# ## Read on
#
# - [Port doctor: what it cannot see](../docs/doctor/blind-spots.md), and the recipes beside it.
# - [Debug your model](https://lightning.ai/docs/pytorch/stable/debug/debugging_basic.html) in Lightning's documentation.
# - Karpathy (2019), [A recipe for training neural networks](https://karpathy.github.io/2019/04/25/recipe/): the leaks, floors and first losses.
