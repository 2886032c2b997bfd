"""The questions of lesson 6. Built from exercises/06_scale_out.py: never edit."""

import operator

import lightning as L
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

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
    wrong,
)
from course_utils.exercises.outcomes import Found
from course_utils.models import MLP

BLOCKS = "The samples are not cut into blocks: they are dealt one by one, as cards are."
LAST = {
    (3, 7): "Ten is no multiple of four, and all workers need equally many, so the sampler begins "
    "anew with the first samples until each has three.",
    (3, 7, 0): "Sample 0 fills up the third worker; the last one gets what comes after it.",
    **dict.fromkeys([(9,), (8, 9), (7, 8, 9), (9, 0, 1)], BLOCKS),
    (2, 6, 0): "That is the third worker: ranks begin at 0, so the last of four is rank 3.",
    (4, 8, 2): "The last of four has rank 3, and begins with sample 3.",
}
STEPS = {
    **dict.fromkeys([938, 937], "That is one worker's epoch; eight take 512 at a step."),
    117: "Each worker has 7,500 samples, and what is left after 117 batches makes a batch too.",
    117.1875: "A step is taken for a smaller last batch as well, so it counts whole.",
    7500: "Those are the samples of each worker; it takes 64 at a step.",
    944: "All workers take a step together: it counts once.",
}
GAIN = {
    4: "Without any talking it would be that.",
    4.8: "The talk is not shared: 24 / 4 + 2 = 8 ms make a step.",
    12: "That is the limit for any number of workers.",
    8: "That is the time of a step, in ms: how many of them go into 24 ms?",
    3.25: "One worker alone has nobody to talk to: its step takes 24 ms.",
}


def _predicted(last, steps, gain):
    if not isinstance(last, (list, tuple)):
        last = [last]
    said = tuple(number(one, "last") for one in last)
    true = tuple(DistributedSampler(range(10), num_replicas=4, rank=3, shuffle=False))
    if said != true:
        reason = LAST.get(said, "0 goes to the first, 1 to the second, … 4 to the first again.")
        return wrong(f"It does not get {list(said)}. {reason}", "section 2, “Share the data”")
    said = number(steps, "steps")
    if said != 118:
        reason = STEPS.get(said, "How many samples has each worker, and how many batches?")
        return wrong(f"It is not {said:,} steps. {reason}", "section 2, “Share the data”")
    said = number(gain, "gain")
    if not abs(said - 3) < 1e-6:
        reason = GAIN.get(round(said, 2), "A step takes one / n + talk, with 24, 4 and 2.")
        return wrong(f"Not {said:.3g} times as fast. {reason}", "section 6, Amdahl's law")
    return right("The last worker gets 3, 7 and 1; 118 steps; three times as fast.")


q1 = Question(
    number=1,
    kind="predict",
    title="The last worker",
    lesson="06_scale_out",
    place="section 2",
    expects="a list and two numbers",
    hints=(
        "The sampler deals as one deals cards, and nobody may have fewer than another.",
        "Each of the four gets three samples, twelve in all: after 9 come 0 and 1. Each of the "
        "eight has 7,500 samples, and its last batch has fewer than 64.",
        "Worker 3 gets the samples at places 3, 7 and 11 of 0, 1, … 9, 0, 1. A step of four "
        "workers takes 24 / 4 + 2 ms.",
    ),
    takeaway="All workers make equally many steps, if need be with a sample twice; and the talk, "
    "which nobody shares, decides early what one more worker is worth.",
    checker=_predicted,
)


ENDED = object()


class Hangs(Exception):  # noqa: N818
    pass


def heard(worker, mean=None):
    try:
        return worker.send(mean)
    except StopIteration:
        return ENDED


def run_together(workers):
    means, said = 0, [heard(worker) for worker in workers]
    while any(one is not ENDED for one in said):
        ended = [rank for rank, one in enumerate(said) if one is ENDED]
        if ended:
            raise Hangs(
                f"after {means} means, workers {ended} have ended; the others wait for ever"
            )
        mean, means = sum(said) / len(said), means + 1
        said = [heard(worker, mean.clone()) for worker in workers]
    return means


def _known_worker(rank, workers, model, batches, loss_of):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in batches:
        optimizer.zero_grad()
        shares = [tuple(part[share::workers] for part in batch) for share in range(workers)]
        loss_of(model, batch, shares, shares[rank]).backward()
        for weight in model.parameters():
            weight.grad = yield weight.grad
        optimizer.step()


def _mean(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


KNOWN = {  # what a worker takes as its loss, and what is said of it
    "right": lambda model, batch, shares, mine: _mean(model, batch),
    "of the mean of the workers' means, where a digit of a small share weighs more than one of a "
    "large share: weigh each share by its size.": lambda model, batch, shares, mine: _mean(
        model, mine
    ),
    "of steps that are too short by the number of workers: the mean over the workers divides once "
    "more, so multiply by `workers`.": lambda model, batch, shares, mine: (
        _mean(model, mine) * len(mine[1]) / len(batch[1])
    ),
    "of sums: divide by the size of the whole batch.": lambda model, batch, shares, mine: (
        _mean(model, mine) * len(mine[1])
    ),
    "of the first share alone: each worker needs digits of its own, `x[rank::workers]`.": (
        lambda model, batch, shares, mine: _mean(model, shares[0])
    ),
}
UNKNOWN = (
    "of no usual mistake. Has each digit one worker, does each share weigh as its size, and are "
    "gradients cleared?"
)


def _together(worker, count, batches):
    """Return the weights of workers that start from equal ones and run in turns."""
    torch.manual_seed(1)
    models = [MLP(hidden=(16,)) for _ in range(count)]
    for model in models:
        model.load_state_dict(models[0].state_dict())
    running = [worker(rank, count, model, batches) for rank, model in enumerate(models)]
    if not all(hasattr(one, "send") for one in running):
        raise Found(wrong("Your worker never talks: there is no `yield` in it."))
    try:
        run_together(running)
    except Hangs as hang:
        raise Found(wrong(f"It hangs: {hang}.")) from None
    return [torch.cat([w.detach().flatten() for w in model.parameters()]) for model in models]


def _near(one, other):
    return torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def _shares_weighed(worker):
    work = function(worker, "worker")
    for count, size in ((3, 64), (4, 10)):
        batches = list(FewDigits(train=150, batch_size=size).train_dataloader())
        found, *others = _together(work, count, batches)
        drift = max((other - found).abs().max() for other in others)
        if not drift < 1e-6:
            return wrong(
                f"After {len(batches)} steps the weights of {count} workers differ by up to "
                f"{drift:.1e}: each goes its own way. All have to step with the same gradient, the "
                "mean: `weight.grad = yield weight.grad`.",
                "section 2, “Wrap the model”",
            )
        known = (
            (why, _together(lambda *g, by=loss_of: _known_worker(*g, by), count, batches)[0])
            for why, loss_of in KNOWN.items()
        )
        _, true = next(known)
        if not _near(found, true):
            reason = next((why for why, weights in known if _near(found, weights)), UNKNOWN)
            return wrong(
                f"{count} workers with batches of {size} come to weights up to "
                f"{(found - true).abs().max():.1e} from those of one process, which is no "
                f"rounding. They are those {reason}"
            )
    return right("Three workers and four make the steps of one, whatever the batch.")


q2 = Question(
    number=2,
    kind="fill in",
    title="Shares that are not equal",
    lesson="06_scale_out",
    place="section 5, “When it does not hold”",
    expects="the function `worker`",
    hints=(
        "Deal as the sampler does: `x[rank::workers]`. What must the losses of the shares be, so "
        "that their mean is the mean over all digits?",
        "The loss of the batch is the sum over all digits, divided by `len(y)`. The mean over the "
        "workers divides by `workers`, so a share's loss is its sum times `workers / len(y)`.",
        '`F.cross_entropy(…, reduction="sum") * workers / len(y)`; then, for each weight, '
        "`weight.grad = yield weight.grad`.",
    ),
    takeaway="The mean of means is the mean of all only where the shares are equal; others have to "
    "be weighed by their size.",
    checker=_shares_weighed,
)


HOMES = {
    "a": ("each_batch", "every batch has its backward pass, in which the workers talk"),
    "b": ("each_epoch", "it has to run as an epoch begins, by whose number the sampler shuffles"),
    "c": ("end", "all workers leave the group, when nothing is left to say"),
    "d": ("start", "the model is wrapped once: then the first worker's weights are sent to all"),
    "e": ("first_worker", "all have the same weights, and two that write one file spoil it"),
    "f": ("start", "the workers have to find each other before anything else"),
    "g": ("each_batch", "the loss is that of a batch"),
    "h": ("each_batch", "every worker makes every step, or their weights part"),
    "i": ("start", "a worker learns its number as soon as there is a group"),
    "j": ("each_batch", "gradients would add up from batch to batch"),
    "k": ("start", "the loader needs it, and it needs the group, to know whose share it deals"),
}
LINES = Lines(
    shown=(
        "loss.backward()",
        "sampler.set_epoch(epoch)",
        "dist.destroy_process_group()",
        "parallel = DistributedDataParallel(model)",
        "save(model.state_dict())",
        'dist.init_process_group("gloo")',
        "loss = F.cross_entropy(parallel(x), y)",
        "optimizer.step()",
        "rank = dist.get_rank()",
        "optimizer.zero_grad()",
        "sampler = DistributedSampler(digits, seed=42)",
    ),
    template="""\
def train(digits):
    model = MLP(hidden=(32,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    {start}
    loader = DataLoader(digits, batch_size=32, sampler=sampler)
    for epoch in range(2):
        {each_epoch}
        for x, y in loader:
            {each_batch}
    if rank == 0:
        {first_worker}
    {end}
""",
)


class _Group:
    """Stands in for `torch.distributed`, as one of several workers sees it."""

    def __init__(self, rank=0, workers=1):
        self.rank, self.workers, self.there, self.saved = rank, workers, False, 0

    def init_process_group(self, backend):
        self.there = True

    def destroy_process_group(self):
        self.there = self._needed("dist.destroy_process_group()", False)

    def get_rank(self):
        return self._needed("dist.get_rank()", self.rank)

    def sampler(self, digits, **settings):
        self._needed("DistributedSampler(digits, seed=42)")
        return DistributedSampler(digits, self.workers, self.rank, **settings)

    def wrapped(self, model):
        self._needed("DistributedDataParallel(model)")

        def parallel(x):
            return self._needed("parallel(x)", model)(x)

        return parallel

    def save(self, weights):
        self.saved += 1

    def _needed(self, what, given=None):
        if self.there:
            return given
        raise Found(
            wrong(
                f"There is no group of workers where `{what}` comes to run: before `f` nobody has "
                "met, and after `c` all have left.",
                "section 2, “Find the others”",
            )
        )

    def run(self, placed, digits):
        given = {"MLP": MLP, "F": F, "torch": torch, "dist": self, "save": self.save}
        given |= {"DataLoader": _keeping, "DistributedSampler": self.sampler}
        LINES.run(placed, given | {"DistributedDataParallel": self.wrapped})["train"](digits)


def _keeping(*args, **settings):
    return DataLoader(*args, collate_fn=keep_batch, **settings)


def _by_one(digits):
    model = MLP(hidden=(32,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sampler = DistributedSampler(digits, num_replicas=1, rank=0, seed=42)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for batch in _keeping(digits, batch_size=32, sampler=sampler):
            optimizer.zero_grad()
            _mean(model, batch).backward()
            optimizer.step()


def _as_every_worker(placed):
    digits = FewDigits(train=100).train
    group = [_Group(rank, 2) for rank in (0, 1)]
    for one in group:
        one.run(placed, digits)
    if [one.saved for one in group] != [1, 0] or any(one.there for one in group):
        return None  # then a line is out of its place
    return grade_port(
        lambda data: _by_one(data.train),
        lambda data: _Group().run(placed, data.train),
        MLP,
        lambda: FewDigits(train=100),
        names=("the loop of one process", "your script"),
        by_trainer=False,
    )


def _in_order(placed):
    placed = LINES.read(placed)
    strays = [letter for letter, (home, _) in HOMES.items() if letter not in placed[home]]
    order = placed["each_batch"]
    if not strays and order.index("a") < order.index("j") < order.index("h"):
        return wrong("`j` clears the gradients that `a` has just computed, before `h` uses them.")
    try:
        outcome = _as_every_worker(placed)
    except Exception:
        if not strays:
            raise
        outcome = None
    if outcome or not strays:  # an outcome is true if it is right
        return outcome
    place = next(place for place, letters in placed.items() if strays[0] in letters)
    reason = HOMES[strays[0]][1]
    more = f" ({len(strays)} lines are not in their place yet.)" if len(strays) > 1 else ""
    return wrong(f"`{strays[0]}`, `{LINES.rows[strays[0]]}`, is not for `{place}`: {reason}.{more}")


q3 = Question(
    number=3,
    kind="lines in order",
    title="A script for every worker",
    lesson="06_scale_out",
    place="section 2",
    expects="a dictionary from place to letters",
    hints=(
        "Ask of each line: how often does it run, and in which workers?",
        "The workers meet first; only then can one ask for a rank, deal digits, or wrap a model.",
        "One line each for `each_epoch` (`b`), `first_worker` (`e`) and `end` (`c`); four lines "
        "make the step, as in any loop.",
    ),
    takeaway="The loop stays what it was. Around it: meet, share, wrap, count epochs, let one "
    "write, leave.",
    checker=_in_order,
    ordered=LINES,
)


def train_in_shares(data):
    model = MLP(hidden=(32,))
    optimizer = torch.optim.SGD(model.parameters(), lr=4 * 0.05)
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 4))
    loader = data.train_dataloader()
    for _ in range(2):
        for share, (x, y) in enumerate(loader, start=1):
            loss = F.cross_entropy(model(x), y)
            (loss / 4).backward()
            if share % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
                warm_up.step()


PLACES = {
    "accumulation in one": "section 5: parallel training is accumulation; the flag is "
    "`accumulate_grad_batches`",
    "gradients a constant factor apart": "section 5, where each half's loss is divided: with "
    "`accumulate_grad_batches`, the Trainer divides by itself",
    "scheduler in another rhythm": "section 5, the rule for the rate. A scheduler moves every step "
    'if `configure_optimizers` returns `{"scheduler": …, "interval": "step"}`',
    "other learning rate": "section 5, the rule for the rate",
    "one run is shorter": "section 3, `max_epochs`",
}


def _shares_ported(port, flags):
    lit = a_class(port, "LitShares", L.LightningModule)
    if not isinstance(flags, dict) or not {"max_epochs", "max_steps"} & flags.keys():
        return wrong(
            "`flags` should be a dictionary, and say how long to train: the loop makes 2 epochs, "
            "and a Trainer without a word on it 1,000."
        )
    return grade_port(
        train_in_shares,
        lambda data: L.Trainer(**{**QUIET, **flags}).fit(
            lit(), train_dataloaders=data.train_dataloader()
        ),
        MLP,
        lambda: FewDigits(train=192, batch_size=16),
        places=PLACES,
    )


q4 = Question(
    number=4,
    kind="port",
    title="Four shares, one step",
    lesson="06_scale_out",
    place="section 5",
    expects="the class `LitShares` and a dictionary of flags",
    hints=(
        "Three methods: what there is, what a share costs, which optimizer steps. How many shares "
        "make a step is a flag.",
        "The Trainer divides the loss by the number of shares itself. `configure_optimizers` gives "
        "a list of optimizers and one of schedulers, each scheduler with its rhythm.",
        'flags: `max_epochs=2, accumulate_grad_batches=4`. Schedulers: `[{"scheduler": warm_up, '
        '"interval": "step"}]`, where a step is one of the optimizer.',
    ),
    takeaway="Workers at once or shares in turns: the arithmetic is the same, and so is the port.",
    checker=_shares_ported,
)


def share_in_blocks(number, rank, workers, epoch):
    size = number // workers
    last = number if rank == workers - 1 else (rank + 1) * size
    return list(range(rank * size, last))


def counted(numbers, batch_size=16):
    """Say at each batch how many digits are in it, as a worker says its gradients."""
    for batch in torch.tensor(numbers).split(batch_size):
        yield torch.tensor(float(len(batch)))


def _dealt(share, size, workers, epoch, state=0):
    """Return the numbers of each worker; each has another state of the random generators."""
    found = []
    for rank in range(workers):
        L.seed_everything(state + rank, verbose=False)
        numbers = share(size, rank, workers, epoch)
        try:
            found.append([operator.index(one) for one in numbers])
        except TypeError:
            call = f"share({size}, {rank}, {workers}, {epoch})"
            raise Found(wrong(f"`{call}` should give a list of whole numbers.")) from None
    return found


def _dealing_fault(found, size, workers):
    all_ = [one for numbers in found for one in numbers]
    lengths = ", ".join(str(len(numbers)) for numbers in found)
    what = f"Of {size} digits, {workers} workers get"
    outside = [one for one in all_ if not 0 <= one < size]
    if outside:
        return f"There is no digit {outside[0]} among {size}: numbers go from 0 to {size - 1}."
    if len({len(numbers) for numbers in found}) > 1:
        return (
            f"{what} {lengths}: who has a batch more waits for ever for those who have ended. Let "
            "them be equally many: begin anew with the first digits, until it comes out even."
        )
    missing = size - len(set(all_))
    if missing and len(all_) >= size:
        return (
            f"{what} {lengths}, and yet nobody gets {missing} of them, as others are dealt twice. "
            "Does each worker shuffle for itself? All need one order: seed a generator by the "
            "epoch."
        )
    if missing:
        return f"{what} {lengths}, and {missing} digits are left out: fill up rather than cut off."
    if len(all_) >= size + workers:
        return f"{what} {lengths}, {len(all_)} in all: that is more than comes out even."
    return None


def _share_mended(share):
    deal = function(share, "share")
    for size, workers in ((194, 3), (192, 3), (10, 4), (2, 4)):
        epochs = [_dealt(deal, size, workers, epoch) for epoch in (0, 1)]
        for found in epochs:
            fault = _dealing_fault(found, size, workers)
            if fault is not None:
                return wrong(fault, "section 2, “Share the data”")
        if _dealt(deal, size, workers, 0, state=9) != epochs[0]:
            return wrong("A second call for the same epoch gives another order.")
        if size > 10 and epochs[0] == epochs[1]:
            return wrong(
                f"Nobody hangs with {size} digits, but epoch 1 has the order of epoch 0.",
                "section 2, “Train”, on `set_epoch`",
            )
    return right("192, 194, 10 and even 2 digits: nobody hangs, and nobody is left out.")


q5 = Question(
    number=5,
    kind="break and mend",
    title="The run that hangs",
    lesson="06_scale_out",
    place="section 2, “Share the data”",
    expects="the function `share`",
    hints=(
        "What does exercise 1's sampler do with ten samples and four workers?",
        "All workers need one order: `torch.randperm(number, generator=…)`, with a generator "
        "that is seeded by the epoch alone. Then fill up, then deal.",
        "`length = -(-number // workers) * workers` comes out even. Repeat the order, cut it to "
        "`length`, and return `order[rank::workers]`.",
    ),
    takeaway="Workers wait for each other at every step: so they make equally many, from one order "
    "that all of them know without a word.",
    checker=_share_mended,
)


# What q.solution() shows: the answer cells, worked out.
q1.answer = """\
last = [3, 7, 1]  # of 0, 1, … 9, 0, 1 the places 3, 7 and 11
steps = 118  # 7,500 = 117 · 64 + 12
gain = 24 / (24 / 4 + 2)
"""
q2.answer = """\
def worker(rank, workers, model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in batches:
        optimizer.zero_grad()
        mine = slice(rank, None, workers)
        total = F.cross_entropy(model(x[mine]), y[mine], reduction="sum")
        (total * workers / len(y)).backward()
        for weight in model.parameters():
            weight.grad = yield weight.grad
        optimizer.step()
"""
q3.answer = """\
placed = {
    "start": "fikd",
    "each_epoch": "b",
    "each_batch": "gjah",
    "first_worker": "e",
    "end": "c",
}
"""
q4.answer = """\
class LitShares(L.LightningModule):
    ...  # all of it

    def __init__(self):
        super().__init__()
        self.model = MLP(hidden=(32,))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.model(x), y)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=4 * 0.05)
        warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min(1, (n + 1) / 4))
        return [optimizer], [{"scheduler": warm_up, "interval": "step"}]



flags = {"max_epochs": 2, "accumulate_grad_batches": 4}
"""
q5.answer = """\
def share(number, rank, workers, epoch):
    order = torch.randperm(number, generator=torch.Generator().manual_seed(epoch)).tolist()
    length = -(-number // workers) * workers  # rounded up
    return (order * workers)[:length][rank::workers]
"""
QUESTIONS = [q1, q2, q3, q4, q5]
