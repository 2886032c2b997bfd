"""Each diagnosis, on a loop with exactly that fault in it."""

import logging
from dataclasses import dataclass, field, replace
from functools import cache, partial

import pytest
import torch
from parity_loops import (
    BATCH,
    EPOCH,
    FEATURES,
    FunctionalDropout,
    Plan,
    adam,
    data,
    lightning,
    loader,
    mlp,
    mlp_built_backwards,
    mlp_with_dropout,
    mlp_with_norm,
    raw,
    repeating_loader,
    sgd,
)
from torch import nn
from torch.nn import functional as F

from course_utils.parity import compare

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

LOOPS = {"raw": raw, "lightning": lightning}
own = partial(loader, 9, shuffle=False)
shared = partial(loader, None)
even = partial(loader, samples=data(samples=48))


@dataclass(frozen=True)
class Fault:
    """One fault, and what the doctor must say of it."""

    what: str
    step: int | None
    name: str
    plan: Plan = field(default_factory=Plan)  # the correct run
    change: dict = field(default_factory=dict)  # what the faulty run does instead
    says: str = ""  # what the explanation must hold; {faulty} and {correct} are the runs' names
    loops: tuple[str, ...] = ("raw", "lightning")  # which loops can have the fault


def step_schedule(optimizer):
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)


def every_second(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)


def shuffled_targets(logits, y):
    return F.cross_entropy(logits, y.roll(1))


def summed(logits, y):
    return F.cross_entropy(logits, y, reduction="sum")


def doubled(logits, y):
    return 2 * F.cross_entropy(logits, y)


def of_rounded(logits, y):
    return F.cross_entropy(logits.round(), y)


def nudge(model):
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-6


def in_training_mode(model):
    with torch.no_grad():
        model.train()(data()[0])


def bigger():
    return nn.Sequential(nn.Linear(FEATURES, 20), nn.ReLU(), nn.Linear(20, 3))


def double():
    return mlp().double()


def leaky():
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.LeakyReLU(), nn.Linear(16, 3))


def last_layer(model):
    return model[-1].parameters()


def groups(model, order=(0, 1)):
    layers = [model[0], model[2]]
    return [{"params": layers[place].parameters()} for place in order]


def decay_of_one(parameters):
    first, second = parameters
    return torch.optim.SGD([{**first, "weight_decay": 0.5}, second], 0.1)


def frozen_first(model):
    model[0].requires_grad_(False)
    return model.parameters()


FAULTS = {
    "other seed": Fault("initial weights", None, "other seed or build order", change={"seed": 2}),
    "other build order": Fault(
        "initial weights", None, "other seed or build order", change={"model": mlp_built_backwards}
    ),
    "other model": Fault("model", None, "not the same model", change={"model": bigger}),
    "rebuilt loader": Fault(
        "batch",
        EPOCH + 1,
        "other batch order: one run repeats its order",
        change={"rebuild_loader": True},
        says="{faulty} goes through the data in the same order again",
        loops=("raw",),
    ),
    "reloaded loader": Fault(  # the Trainer draws once more from its generator
        "batch", EPOCH + 1, "other batch order", change={"rebuild_loader": True},
        loops=("lightning",),
    ),
    "order that repeats": Fault(
        "batch",
        EPOCH + 1,
        "other batch order: one run repeats its order",
        change={"loader": repeating_loader},
        says="{faulty} goes through the data in the same order again",
    ),
    "no shuffle": Fault(
        "batch",
        1,
        "other batch order: one run repeats its order",
        change={"loader": partial(loader, shuffle=False)},
        says="{faulty} goes through the data in the same order again",
    ),
    "other loader seed": Fault(
        "batch", 1, "other batch order", change={"loader": partial(loader, 6)}
    ),
    "validation in one": Fault(
        "batch",
        EPOCH + 1,
        "other batch order: validation in one loop only",
        Plan(loader=shared),
        {"validation": shared},
        "{faulty}: 6 forward passes",
    ),
    "validation in one, with gradients": Fault(
        "batch",
        EPOCH + 1,
        "other batch order: validation in one loop only",
        Plan(loader=shared),
        {"validation": shared, "no_grad": False},
        "{faulty}: 6 forward passes",
        ("raw",),
    ),
    "validation in one, dropout": Fault(
        "forward output",
        EPOCH + 1,
        "other random numbers in the model",
        Plan(model=mlp_with_dropout),
        {"validation": shared},
        "{faulty}: 6 forward passes",
    ),
    "other batch size": Fault(
        "batch", 1, "other batches", change={"loader": partial(loader, size=BATCH // 2)}
    ),
    "other normalisation": Fault("batch", 1, "other batches", change={"prepare": lambda x: x / 2}),
    "other samples": Fault(
        "batch", 1, "other batches", change={"loader": partial(loader, samples=data(4))}
    ),
    "accumulation in one": Fault("batch", 1, "accumulation in one", change={"accumulate": 2}),
    "forgotten zero_grad": Fault(
        "gradient",
        2,
        "forgotten zero_grad()",
        change={"zero_grad": "never"},
        says="In {faulty} gradients add up",
    ),
    "zero_grad once per epoch": Fault(
        "gradient",
        2,
        "forgotten zero_grad()",
        change={"zero_grad": "each epoch"},
        says="In {faulty} gradients add up",
    ),
    "forgotten zero_grad, plain SGD and batch norm": Fault(
        "gradient",
        2,
        "forgotten zero_grad()",
        Plan(optimizer=sgd(), model=mlp_with_norm),
        {"zero_grad": "never"},
        "In {faulty} gradients add up",
    ),
    "forgotten zero_grad, accumulation": Fault(
        "gradient",
        2,
        "forgotten zero_grad()",
        Plan(accumulate=2),
        {"zero_grad": "never"},
        "In {faulty} gradients add up",
    ),
    "forgotten train, dropout": Fault(
        "mode",
        EPOCH + 1,
        "forgotten train()",
        Plan(model=mlp_with_dropout, validation=own),
        {"train": False},
        "{faulty} took this step",
    ),
    "forgotten train, functional dropout": Fault(
        "mode",
        EPOCH + 1,
        "forgotten train()",
        Plan(model=FunctionalDropout, validation=own),
        {"train": False},
        "{faulty} took this step",
    ),
    "forgotten train, batch norm": Fault(
        "mode",
        EPOCH + 1,
        "forgotten train()",
        Plan(model=mlp_with_norm, validation=own),
        {"train": False},
        "{faulty} took this step",
    ),
    "forgotten eval, dropout": Fault(
        "forward output",
        EPOCH + 1,
        "forgotten eval()",
        Plan(model=mlp_with_dropout, validation=own),
        {"eval": False},
        "{faulty} validated",
    ),
    "forgotten eval, functional dropout, with gradients": Fault(
        "forward output",
        EPOCH + 1,
        "forgotten eval()",
        Plan(model=FunctionalDropout, validation=own),
        {"eval": False, "no_grad": False},
        "{faulty} validated",
        ("raw",),
    ),
    "forgotten eval, dropout, loaders on the global generator": Fault(
        "batch",
        EPOCH + 1,
        "forgotten eval()",
        Plan(model=mlp_with_dropout, loader=shared, validation=shared),
        {"eval": False},
        "{faulty} validated",
    ),
    "forgotten eval, batch norm": Fault(
        "buffers",
        EPOCH + 1,
        "forgotten eval()",
        Plan(model=mlp_with_norm, validation=own, trainer=(("num_sanity_val_steps", 0),)),
        {"eval": False},
        "{faulty} validated",
    ),
    "forgotten eval, batch norm, sanity check": Fault(
        "buffers",
        1,
        "forgotten eval()",
        Plan(model=mlp_with_norm, validation=own),
        {"eval": False},
        "{faulty} validated",
        ("lightning",),
    ),
    "forgotten eval after the last step": Fault(
        "final buffers",
        None,
        "forgotten eval()",
        Plan(model=mlp_with_norm),
        {"finish": in_training_mode},
        "{faulty} validated",
    ),
    "scheduler per step": Fault(
        "learning rate",
        2,
        "scheduler per step in one, per epoch in the other",
        Plan(scheduler=step_schedule, epochs=3),
        {"interval": "step"},
        "{faulty} steps its scheduler after each batch, {correct} does not",
    ),
    "scheduler per epoch": Fault(
        "learning rate",
        2,
        "scheduler per step in one, per epoch in the other",
        Plan(scheduler=step_schedule, epochs=3, interval="step"),
        {"interval": "epoch"},
        "{correct} steps its scheduler after each batch, {faulty} does not",
    ),
    "slow scheduler per step": Fault(
        "learning rate",
        3,
        "scheduler per step in one, per epoch in the other",
        Plan(scheduler=every_second, epochs=3),
        {"interval": "step"},
        "{faulty} steps its scheduler after each batch, {correct} does not",
    ),
    "no scheduler": Fault(
        "learning rate",
        2,
        "scheduler per step in one, not in the other",
        Plan(scheduler=step_schedule, interval="step"),
        {"scheduler": None},
        "{correct} steps its scheduler after each batch, {faulty} does not",
    ),
    "no scheduler per epoch": Fault(
        "learning rate",
        EPOCH + 1,
        "scheduler per epoch in one, not in the other",
        Plan(scheduler=step_schedule),
        {"scheduler": None},
        "{correct} steps its scheduler after each epoch, {faulty} does not",
    ),
    "other learning rate": Fault(
        "learning rate",
        1,
        "other learning rate",
        change={"optimizer": adam(0.02)},
        says="{faulty}: 0.02; {correct}: 0.01",
    ),
    "summed loss": Fault(
        "gradient",
        1,
        "gradients a constant factor apart",
        change={"loss": summed},
        says="8 is the batch size",
    ),
    "doubled loss": Fault(
        "gradient",
        1,
        "gradients a constant factor apart",
        change={"loss": doubled},
        says="The gradient of {faulty} is 2 times that of {correct}",
    ),
    "accumulation not divided": Fault(
        "gradient",
        1,
        "gradients a constant factor apart",
        Plan(accumulate=3),
        {"divide": False},
        "3 batches make one step",
        ("raw",),
    ),
    "clipping by norm": Fault(
        "gradient",
        1,
        "clipping in one",
        change={"clip_norm": 0.2},
        says="{faulty} clips its gradients",
    ),
    "clipping by value": Fault(
        "gradient",
        1,
        "clipping in one",
        change={"clip_value": 0.02},
        says="{faulty} clips its gradients",
    ),
    "one run is longer": Fault(
        "length",
        2 * EPOCH + 1,
        "one run is shorter",
        change={"epochs": 3},
        says="{faulty}: 18 steps; {correct}: 12 steps",
    ),
    "one run is shorter": Fault(
        "length",
        EPOCH + 1,
        "one run is shorter",
        change={"epochs": 1},
        says="{faulty}: 6 steps; {correct}: 12 steps",
    ),
    "weight decay": Fault(
        "optimizer",
        1,
        "other optimizer settings",
        change={"optimizer": adam(weight_decay=0.1)},
        says="{faulty}: weight_decay = 0.1; {correct}: weight_decay = 0",
    ),
    "tiny weight decay": Fault(
        "optimizer",
        1,
        "other optimizer settings",
        Plan(optimizer=sgd()),
        {"optimizer": sgd(weight_decay=1e-6)},
        "{faulty}: weight_decay = 1e-06; {correct}: weight_decay = 0",
    ),
    "AdamW": Fault(
        "optimizer",
        1,
        "other optimizer settings",
        change={"optimizer": partial(torch.optim.AdamW, lr=0.01)},
        says="{faulty}: AdamW; {correct}: Adam",
    ),
    "momentum, which acts from the second step on": Fault(
        "optimizer",
        2,
        "other optimizer settings",
        Plan(optimizer=sgd()),
        {"optimizer": sgd(momentum=0.9)},
        "{faulty}: momentum = 0.9; {correct}: momentum = 0",
    ),
    "groups of other parameters": Fault(
        "optimizer",
        1,
        "other optimizer settings",
        Plan(optimizer=decay_of_one, parameters=groups),
        {"parameters": partial(groups, order=(1, 0))},
        "not the same ones",
    ),
    "rebuilt optimizer": Fault(
        "optimizer",
        EPOCH + 1,
        "optimizer rebuilt or used before",
        change={"rebuild_optimizer": True},
        says="{faulty} steps with optimizer number 2",
    ),
    "parameters left out": Fault(
        "parameters",
        1,
        "other parameters handed to the optimizer",
        change={"parameters": last_layer},
        says="{faulty}: 2 tensors of the model; {correct}: 4 tensors",
    ),
    "frozen layer": Fault(
        "gradient", 1, "gradient cut off", change={"parameters": frozen_first},
        says="In {faulty} no gradient reaches 2 of 4 tensors",
    ),
    "rounding on the way to the loss": Fault(
        "gradient", 1, "gradient cut off", change={"loss": of_rounded},
        says="In {faulty} no gradient reaches 4 of 4 tensors",
    ),
    "autocast": Fault(
        "precision",
        1,
        "other precision",
        change={"autocast": True},
        says="{faulty}: output is bfloat16 under autocast; {correct}: output is float32",
    ),
    "weights changed at the end": Fault(
        "final weights", None, "weights changed after the last step", change={"finish": nudge}
    ),
    "other activation": Fault(
        "forward output", 1, "other forward pass", change={"model": leaky}
    ),
    "other targets": Fault(
        "gradient",
        1,
        "other loss or gradient",
        change={"loss": shuffled_targets},
        says="The losses differ",
    ),
    "label smoothing": Fault(
        "gradient",
        1,
        "other loss or gradient",
        change={"loss": partial(F.cross_entropy, label_smoothing=0.1)},
        says="The losses differ",
    ),
}  # fmt: skip


@cache
def correct(loop: str, plan: Plan):
    return LOOPS[loop](plan)


CASES = [(name, loop) for name, fault in FAULTS.items() for loop in fault.loops]


@pytest.mark.parametrize(("name", "loop"), CASES, ids=[f"{n}, {loop}" for n, loop in CASES])
def test_fault_is_named(name, loop):
    """The fault sits in the raw loop or in Lightning's, and that run comes first or second."""
    fault = FAULTS[name]
    faulty = LOOPS[loop](replace(fault.plan, **fault.change))
    reference = correct("lightning" if loop == "raw" else "raw", fault.plan)
    for runs, names in (
        ((faulty, reference), ("F-run", "C-run")),
        ((reference, faulty), ("C-run", "F-run")),
    ):
        report = compare(*runs, names=names)
        found = report.first_difference
        assert report.verdict == "different", report.explain()
        assert (found.what, report.diagnosis.name) == (fault.what, fault.name), report.explain()
        assert found.step == fault.step, report.explain()
        said = " ".join(report.explain().split())
        for part in fault.says.format(faulty="F-run", correct="C-run").split("; "):
            assert part in said, said


def test_same_model_trained_twice():
    model = mlp()
    before = raw(Plan(), model=model)
    after = lightning(Plan(), model=model)
    for runs, names in (((before, after), ("B", "A")), ((after, before), ("A", "B"))):
        report = compare(*runs, names=names)
        assert report.diagnosis.name == "same model trained twice"
        assert report.first_difference.what == "initial weights"
        assert "A began with the weights that B ended with" in report.explain()


def test_full_last_batch_with_a_generator_of_its_own():
    """A raw loop draws an order too many from such a loader at the end of an epoch."""
    plan = Plan(loader=even)
    report = compare(raw(plan), lightning(plan))
    assert (report.first_difference.what, report.first_difference.step) == ("batch", EPOCH + 1)
    assert report.diagnosis.name == "other batch order after a full last batch"


def test_last_accumulation_of_an_epoch_divided_otherwise():
    """With 6 batches, the second step of an epoch has 2 of 4."""

    class Rest:
        def __init__(self):
            self.calls = 0

        def __call__(self, logits, y):
            self.calls += 1
            return F.cross_entropy(logits, y) * (2 if (self.calls - 1) % EPOCH >= 4 else 1)

    report = compare(raw(Plan(accumulate=4, loss=Rest())), lightning(Plan(accumulate=4)))
    assert report.first_difference.step == 2
    assert report.diagnosis.name == "gradients a constant factor apart"
    assert "This step has 2 batches, those before it 4" in " ".join(report.explain().split())


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 0.9999, 1 - 1e-6, 1 - 1e-7])
def test_clipping_that_few_values_reach_is_never_called_rounding(share):
    """The limit lies just below the largest value of one step, and others exceed it as well."""
    free = raw(Plan(optimizer=sgd(1e-3)))
    tops = sorted(step.gradient_max for step in free.steps)
    limit = tops[-3] * share
    for clipped in (raw, lightning):
        faulty = clipped(Plan(optimizer=sgd(1e-3), clip_value=limit))
        for runs in ((faulty, free), (free, faulty)):
            report = compare(*runs, names=("C", "F") if runs[0] is faulty else ("F", "C"))
            first = next(i for i, s in enumerate(free.steps, 1) if s.gradient_max > limit)
            assert report.verdict == "different", report.explain()
            assert report.first_difference.what == "gradient"
            assert report.first_difference.step == first
            assert report.diagnosis.name == "clipping in one", report.explain()
            assert "C clips its gradients" in report.explain()


@pytest.mark.parametrize("record", [2, 3])
def test_clipping_that_begins_with_less_than_rounding_is_found_where_it_begins(record):
    """In the first clipped step a millionth is cut off, in a later one more."""
    plan = Plan(optimizer=sgd(1e-3))
    free = lightning(plan)
    tops = [step.gradient_max for step in free.steps]
    assert max(tops[: record - 1]) < tops[record - 1] < max(tops[record:])
    clipped = raw(replace(plan, clip_value=tops[record - 1] * (1 - 1e-6)))
    report = compare(clipped, free)
    assert report.verdict == "different"
    assert (report.first_difference.step, report.diagnosis.name) == (record, "clipping in one")


def by_hand(logits, y):
    """Cross-entropy with other rounding."""
    return (logits.exp().sum(1).log() - logits[torch.arange(len(y)), y]).sum() / len(y)


@pytest.mark.parametrize(
    ("change", "step", "name"),
    [
        ({"optimizer": adam(0.011)}, 1, "other learning rate"),
        ({"zero_grad": "never"}, 2, "forgotten zero_grad()"),
        ({"rebuild_loader": True}, EPOCH + 1, "other batch order: one run repeats its order"),
        ({"epochs": 3}, 2 * EPOCH + 1, "one run is shorter"),
        ({"clip_norm": 0.2}, 1, "clipping in one"),
        ({"rebuild_optimizer": True}, EPOCH + 1, "optimizer rebuilt or used before"),
    ],
)
def test_a_fault_is_found_behind_rounding(change, step, name):
    """With another formula all numbers differ in their last bits, and the fault still shows."""
    report = compare(raw(replace(Plan(loss=by_hand), **change)), lightning(Plan()))
    assert report.verdict == "different"
    assert (report.first_difference.step, report.diagnosis.name) == (step, name), report.explain()


def test_forgotten_eval_is_found_behind_rounding():
    plan = Plan(model=mlp_with_norm, validation=own, optimizer=sgd())
    plan = replace(plan, trainer=(("num_sanity_val_steps", 0),))
    faulty = raw(replace(plan, loss=by_hand, eval=False))
    report = compare(faulty, lightning(plan))
    assert (report.first_difference.step, report.diagnosis.name) == (EPOCH + 1, "forgotten eval()")
    plan = Plan(model=mlp_with_norm, optimizer=sgd())
    faulty = raw(replace(plan, loss=by_hand, finish=in_training_mode))
    report = compare(faulty, lightning(plan))
    assert report.first_difference.what == "final buffers"
    assert report.diagnosis.name == "forgotten eval()"
    plan = Plan(model=mlp_with_dropout, validation=own)
    faulty = raw(replace(plan, loss=by_hand, eval=False))
    report = compare(faulty, lightning(plan))
    assert (report.first_difference.step, report.diagnosis.name) == (EPOCH + 1, "forgotten eval()")


def test_rounding_that_grew_is_called_no_fault_and_no_rounding():
    """A wild learning rate lets rounding grow until it proves nothing."""
    plan = Plan(optimizer=sgd(30.0), epochs=12)
    report = compare(raw(replace(plan, loss=by_hand)), lightning(plan))
    assert report.verdict == "different"
    assert report.diagnosis.name == "more than rounding", report.explain()
    assert report.first_difference.step != 1


def test_weights_in_another_format():
    faulty = raw(Plan(model=double, prepare=torch.Tensor.double))
    report = compare(faulty, lightning(Plan()))
    assert (report.first_difference.what, report.diagnosis.name) == ("precision", "other precision")
    report = compare(lightning(Plan(trainer=(("precision", "bf16-true"),))), raw(Plan()))
    assert report.diagnosis.name == "other precision", report.explain()


def test_an_optimizer_with_a_past():
    kept = []

    def used(parameters):
        if not kept:
            kept.append(torch.optim.Adam(list(parameters), 0.01))
        return kept[0]

    torch.manual_seed(1)
    model = mlp()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    raw(Plan(optimizer=used), model=model)
    model.load_state_dict(start)
    faulty = raw(Plan(optimizer=used), model=model)
    report = compare(faulty, lightning(Plan()))
    assert report.diagnosis.name == "optimizer rebuilt or used before"
    assert "The optimizer of raw loop held state from before the trace" in report.explain()


def beside(middle, outputs):
    """Return a network beside the model, always the same, that moves no other random number."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), *middle, nn.Linear(8, outputs))


def with_helper(training=False, trained=False, handed=False):
    """Return a plan whose loss goes through a second network, which should stay fixed."""
    helper = beside([nn.BatchNorm1d(8), nn.ReLU()], outputs=3)
    helper.train(training).requires_grad_(trained)
    extra = list(helper.parameters()) if handed else []
    return Plan(
        loss=lambda logits, y: F.cross_entropy(helper(logits), y),
        parameters=lambda model: [*model.parameters(), *extra],
    )


HELPER_FAULTS = [
    (
        {"training": True},
        ("gradient", 1, "another network in training mode"),
        "{faulty}: 1 of 1 such layers in training mode",
    ),
    (
        {"trained": True, "handed": True},
        ("gradient", 2, "another network handed to the optimizer"),
        "{faulty}: 6 tensors beside the model are trained, at step 1",
    ),
]


@pytest.mark.parametrize("model", [mlp, mlp_with_norm])  # the second has modes of its own
@pytest.mark.parametrize("faulty", ["raw", "lightning"])
@pytest.mark.parametrize(("change", "expected", "says"), HELPER_FAULTS)
def test_a_fault_in_a_network_beside_the_model(change, expected, says, faulty, model):
    plans = {name: with_helper(**(change if name == faulty else {})) for name in LOOPS}
    runs = {name: loop(replace(plans[name], model=model)) for name, loop in LOOPS.items()}
    report = compare(runs["raw"], runs["lightning"])
    difference = report.first_difference
    assert (difference.what, difference.step, report.diagnosis.name) == expected
    name = {"raw": "raw loop", "lightning": "Lightning"}[faulty]
    assert says.format(faulty=name) in " ".join(report.explain().split())


@pytest.mark.parametrize("harmless", [{"handed": True}, {"trained": True}])
def test_a_fixed_network_may_be_handed_over_and_an_unused_gradient_may_flow(harmless):
    compare(raw(with_helper()), lightning(with_helper(**harmless))).assert_identical()


@pytest.mark.parametrize("faulty", ["raw", "lightning"])
def test_a_teacher_in_training_mode(faulty):
    """Its answers are targets: no gradient flows through it."""

    def with_teacher(training):
        teacher = beside([nn.BatchNorm1d(8)], outputs=3).train(training)

        def loss(logits, y):
            with torch.no_grad():
                target = teacher(logits)
            return F.mse_loss(logits, target)

        return Plan(loss=loss)

    runs = [loop(with_teacher(training=name == faulty)) for name, loop in LOOPS.items()]
    assert compare(*runs).diagnosis.name == "another network in training mode"


def test_another_fault_is_not_blamed_on_the_network_beside_the_model():
    report = compare(raw(with_helper()), lightning(replace(with_helper(), optimizer=adam(0.02))))
    assert report.diagnosis.name == "other learning rate"


def with_probe(loss, training=True, handed=True, dropouts=0):
    """Return a plan with a network that looks at the model's output and changes nothing."""
    middle = [nn.Dropout(0.0), nn.BatchNorm1d(8, track_running_stats=False)]
    middle += [nn.Dropout() for _ in range(dropouts)]
    probe = beside(middle, outputs=1).train(training)
    extra = list(probe.parameters()) if handed else []
    return Plan(
        loss=lambda logits, y: loss(logits, y) + probe(logits.detach()).square().mean(),
        parameters=lambda model: [*model.parameters(), *extra],
    )


@pytest.mark.parametrize("change", [{"handed": False}, {"training": False}, {"dropouts": 2}])
def test_a_harmless_network_beside_the_model_is_not_blamed(change):
    one = raw(with_probe(F.cross_entropy, dropouts=1 if "dropouts" in change else 0))
    compare(one, lightning(with_probe(F.cross_entropy, **change))).assert_identical()
    near = compare(one, lightning(with_probe(by_hand, **change)))
    assert near.verdict == "equal within rounding", near.explain()
    twice = with_probe(lambda logits, y: 2 * F.cross_entropy(logits, y), **change)
    report = compare(one, lightning(twice))
    assert report.diagnosis.name == "gradients a constant factor apart", report.explain()
    other = with_probe(partial(F.cross_entropy, label_smoothing=0.1), **change)
    assert compare(one, lightning(other)).diagnosis.name == "other loss or gradient"


def test_weights_in_other_groups_with_the_same_settings_are_no_difference():
    """Hugging Face's Trainer puts weights with and without decay into two groups."""

    def halves(parameters, **settings):
        parameters = list(parameters)
        groups = [{"params": parameters[:2]}, {"params": parameters[2:]}]
        return torch.optim.AdamW(groups, lr=0.01, **settings)

    def whole(parameters, **settings):
        return torch.optim.AdamW(parameters, lr=0.01, **settings)

    compare(raw(Plan(optimizer=whole)), raw(Plan(optimizer=halves))).assert_identical()
    other = compare(raw(Plan(optimizer=whole)), raw(Plan(optimizer=partial(halves, fused=True))))
    assert other.verdict == "equal within rounding"
    assert "different kernels" in other.explain()
    other = compare(raw(Plan(optimizer=whole)), raw(Plan(optimizer=partial(halves, eps=1e-3))))
    assert other.diagnosis.name == "other optimizer settings"
    assert "eps" in other.explain()


@pytest.mark.parametrize("loop", [raw, lightning])
def test_clipping_that_acts_once_is_known_by_its_call(loop):
    """Not taken for a loss with another factor, though no second step shows the limit."""
    plan = Plan(epochs=1, loader=partial(loader, samples=data(samples=BATCH)))
    report = compare(raw(plan), loop(replace(plan, clip_norm=0.1)), names=("free", "clipped"))
    assert report.diagnosis.name == "clipping in one", str(report)
    assert report.diagnosis.cause.startswith("clipped clips its gradients")
    assert "clipped: clipping: limit 0.1, norm found" in " ".join(report.explain().split())
