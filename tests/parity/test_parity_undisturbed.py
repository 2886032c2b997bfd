"""A traced program does what it does untraced: its results, its random numbers, its objects."""

import copy
import gc
import io
import logging
import pickle
import random
import threading
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from parity_loops import BATCH, CLASSES, FEATURES, SAMPLES, data
from torch import nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.optim import optimizer as optim
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from course_utils.parity import (
    backward,
    compare,
    feeding,
    follower,
    optimizers,
    passes,
    recorder,
    trace,
    watch,
)

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

X, Y = data()


def net():
    return nn.Sequential(
        nn.Linear(FEATURES, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(16, CLASSES),
    )


def train(model, call=None, optimizer=None, after=None, steps=3, x=X):
    """Make a few steps with the model, or with what calls it; return the losses."""
    optimizer = optimizer or torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for start in range(0, steps * BATCH, BATCH):
        optimizer.zero_grad()
        loss = F.cross_entropy((call or model)(x[start : start + BATCH]), Y[start : start + BATCH])
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
        if after:
            after(model)
    return losses


def sgd(model):
    return torch.optim.SGD(model.parameters(), 0.1)


SCENARIOS: dict[str, tuple[Callable, int, str]] = {}


def scenario(steps: int, noted: str = ""):
    """Add a run: how many steps the trace has of it, and what its remarks are about."""

    def add(run):
        SCENARIOS[run.__name__] = run, steps, noted
        return run

    return add


# Copies


@scenario(3)
def deep_copies(model):
    return train(model, after=lambda m: copy.deepcopy(m)(X))


@scenario(3)
def pickles(model):
    return train(model, after=lambda m: pickle.loads(pickle.dumps(m))(X))


@scenario(3)
def models_saved_whole(model):
    def save(model):
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        torch.load(file, weights_only=False)(X)

    return train(model, after=save)


@scenario(3)
def averages(model):
    average = AveragedModel(model)

    def update(model):
        average.update_parameters(model)
        average(X)

    return train(model, after=update)


@scenario(6)
def the_best_copy_loaded_again(model):
    losses = train(model)
    best = copy.deepcopy(model.state_dict())
    model.load_state_dict(best, assign=True)
    return losses + train(model)


# Compilers, exporters, transforms


@scenario(3)
def compiled_inside(model):
    return train(model, torch.compile(model, backend="eager", fullgraph=True))


@scenario(3)
def compiled_in_place(model):
    model.compile(backend="aot_eager", fullgraph=True)
    return train(model)


@scenario(3)
def a_compiled_function_around_the_model(model):
    def twice(x):
        return 2 * model(x)

    return train(model, torch.compile(twice, backend="eager", fullgraph=True))


@scenario(2)
def a_compiled_step(model):
    optimizer = sgd(model)

    @torch.compile(backend="eager")
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return [float(step(X[:BATCH], Y[:BATCH])) for _ in range(2)]


@scenario(6)
def exported(model):
    losses = train(model)
    torch.export.export(model.eval(), (X[:2],))
    return losses + train(model.train())


@scenario(6)
def traced_by_jit(model):
    losses = train(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(model.eval(), X)(X)
        torch.jit.script(model)(X)
    return losses + train(model.train())


@scenario(6)
def traced_symbolically(model):
    losses = train(model)
    torch.fx.symbolic_trace(model)(X)
    return losses + train(model)


@scenario(6, "inside torch.func")
def functional_transforms(model):
    losses = train(model)
    model.eval()
    params = {name: p.detach() for name, p in model.named_parameters()}
    vmap(lambda x: model(x[None]))(X)
    jvp(model, (X,), (X,))
    grad(lambda p: functional_call(model, p, (X,)).sum())(params)
    return losses + train(model.train())


@scenario(3)
def a_functional_call(model):
    params = dict(model.named_parameters())
    return train(model, lambda x: functional_call(model, params, (x,)))


# Wrappers and hooks


@scenario(3)
def data_parallel(model):
    return train(model, nn.DataParallel(model))


@scenario(3)
def distributed(model, tmp=[]):  # noqa: B006
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        return train(model, nn.parallel.DistributedDataParallel(model))
    finally:
        torch.distributed.destroy_process_group()


@scenario(3)
def parametrized(model):
    weight_norm(model[0])
    return train(model)


@scenario(3)
def hooks_of_the_programs_own(model):
    model[0].register_forward_pre_hook(lambda m, args, kwargs: (args, kwargs), with_kwargs=True)
    model[0].register_full_backward_hook(lambda m, before, after: None)
    model[4].register_full_backward_pre_hook(lambda m, after: None)
    model.register_forward_hook(lambda m, args, kwargs, output: 2 * output, with_kwargs=True)
    return train(model)


@scenario(6)
def checkpointed(model):
    losses = train(model, partial(checkpoint, model, use_reentrant=False))
    again = partial(checkpoint, model, use_reentrant=True)
    return losses + train(model, lambda x: again(x.clone().requires_grad_()))


@scenario(3)
def saved_tensors_on_the_cpu(model):
    with torch.autograd.graph.save_on_cpu():
        return train(model)


@scenario(12)
def a_step_for_each_gradient(model):
    optimizers = {p: torch.optim.SGD([p], 0.1) for p in model.parameters()}

    def step(p):
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(step)
    return [float(F.cross_entropy(model(X), Y).backward() or 0) for _ in range(2)]


# Gradients and optimizers


@scenario(3)
def second_derivatives(model):
    optimizer, losses = sgd(model), []
    for _ in range(3):
        x = X.clone().requires_grad_()
        loss = model(x).square().mean()
        (slope,) = torch.autograd.grad(loss, x, create_graph=True)
        optimizer.zero_grad()
        (loss + slope.square().sum()).backward(retain_graph=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return losses


@scenario(3)
def a_function_with_its_own_backward(model):
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    return train(model, lambda x: Double.apply(model(x)))


class Steady(torch.optim.lr_scheduler.StepLR):
    def step(self):
        super().step()


class Loud(torch.optim.SGD):
    def zero_grad(self, set_to_none=True):
        super().zero_grad(set_to_none)

    def step(self, closure=None):
        return super().step(closure)


@scenario(3)
def a_subclass_of_an_optimizer(model):
    optimizer = Loud(model.parameters(), 0.1)
    scheduler = Steady(optimizer, 1)
    return train(model, optimizer=optimizer, after=lambda m: scheduler.step())


@scenario(3)
def a_gradient_scaler(model):
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=8.0)
    for _ in range(3):
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(X), Y)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        nn.utils.clip_grad_value_(model.parameters(), 0.1)
        scaler.step(optimizer)
        scaler.update()


# Modes


@scenario(3)
def validated_in_inference_mode(model):
    def validate(model):
        model.eval()
        with torch.inference_mode():
            model(X)
        model.train()

    return train(model, after=validate)


@scenario(3)
def all_under_autocast(model):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return train(model)


@scenario(3)
def another_default_device_and_type(model):
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            return train(model)
    finally:
        torch.set_default_dtype(torch.float32)


class Counts(torch.utils._python_dispatch.TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


@scenario(3)
def operations_counted(model):
    with Counts() as counts:
        train(model)
    return counts.count


@scenario(3)
def anomalies_looked_for(model):
    with torch.autograd.detect_anomaly(check_nan=False):
        return train(model)


# Threads, loaders, exceptions


@scenario(6)
def threads_beside(model):
    """Another thread calls the model while the loop does: each has its own place in it."""
    inside, done = threading.Event(), threading.Event()

    def wait(module, inputs):
        if threading.current_thread() is beside:
            inside.set()
            done.wait(60)

    beside = threading.Thread(target=torch.no_grad()(model), args=(X,))
    handle = model[0].register_forward_pre_hook(wait)
    beside.start()
    inside.wait(60)
    losses = train(model)
    done.set()
    beside.join(60)
    handle.remove()
    return losses + train(model)


class Squares(Dataset):
    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        return X[index] + torch.rand(FEATURES), Y[index]


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(X[i], Y[i]) for i in range(SAMPLES)])


def over(loader, model):
    optimizer = sgd(model)
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


@scenario(12)
def forked_workers(model):
    loader = DataLoader(Squares(), 16, shuffle=True, num_workers=2, multiprocessing_context="fork")
    for _ in range(4):
        over(loader, model)


@scenario(3)
def spawned_workers(model):
    dataset = TensorDataset(X, Y)
    over(DataLoader(dataset, 16, num_workers=1, multiprocessing_context="spawn"), model)


@scenario(6)
def streams_left_early(model):
    next(iter(DataLoader(Stream(), BATCH)))
    over(DataLoader(Stream(), BATCH), model)


@scenario(4)
def an_interrupt_in_the_loop(model):
    def interrupt(model):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, after=interrupt)
    return train(model)


@scenario(3)
def exceptions_in_the_model(model):
    for _ in range(2):
        with pytest.raises(RuntimeError):
            model(torch.ones(2, FEATURES + 1))
    handle = model[0].register_full_backward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(model)
    handle.remove()
    model.zero_grad()
    return train(model)


# What a model can be made of


@scenario(7)
def no_samples_and_no_gradients(model):
    optimizer = sgd(model)
    model.eval()
    model(X[:0]).sum().backward()
    optimizer.step()
    model.train()
    losses = train(model)
    optimizer.zero_grad()
    optimizer.step()
    return losses + train(model, steps=2)


@scenario(6)
def another_number_format_inside(model):
    losses = train(model)
    model.double()
    return losses + train(model, x=X.double())


@scenario(3)
def sixteen_bits(model):
    model.bfloat16()
    return train(model, x=X.bfloat16())


@scenario(9)
def layers_added_and_removed(model):
    losses = train(model)
    model.append(nn.Linear(CLASSES, CLASSES))
    losses += train(model)
    del model[5]
    return losses + train(model)


@scenario(6)
def quantized_copies(model):
    losses = train(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model).eval(), {nn.Linear})
    small(X)
    return losses + train(model)


@scenario(3)
def a_weight_that_is_no_number(model):
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    return train(model)


# Traces


@scenario(6)
def a_trace_within(model):
    with trace(model) as inner, trace(net()):
        losses = train(model)
    assert len(inner.steps) == 3
    return losses + train(model)


@scenario(6)
def a_trace_left_open(model):
    def open_trace():
        with trace(model):
            yield

    left = open_trace()
    next(left)
    losses = train(model)
    del left
    gc.collect()
    return losses + train(model)


def run_once(run, traced):
    torch._dynamo.reset()
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    model = net()
    record = None
    if traced:
        with trace(model) as record:
            result = run(model)
    else:
        result = run(model)
    values = [t.detach().clone() for t in (*model.parameters(), *model.buffers())]
    chances = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    attributes = {name: type(value) for name, value in vars(model).items()}
    return record, (repr(result), attributes), values, chances


def equal(a, b):
    return torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_program_does_not_notice_its_trace(name):
    run, steps, noted = SCENARIOS[name]
    _, *plain = run_once(run, traced=False)
    record, *traced = run_once(run, traced=True)
    assert traced[0] == plain[0]
    assert all(equal(a, b) for a, b in zip(traced[1], plain[1], strict=True))
    assert torch.equal(traced[2][0], plain[2][0]) and traced[2][1:] == plain[2][1:]
    assert len(record.steps) == steps
    assert all(noted and noted in note for note in record.notes), record.notes
    assert not watch.WATCHERS and not watch.UNDO


def test_a_step_that_calls_the_one_above_counts_once():
    model = net()
    with trace(model) as record:
        a_subclass_of_an_optimizer(model)
    assert [step.kind for step in record.steps] == ["Loud"] * 3
    assert [schedule.steps for schedule in record.schedules] == [3]


# A doctor that fails


def busy(model):
    """Train so that everything happens that a recorder is told of."""
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=8.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    losses = []
    for x, y in DataLoader(TensorDataset(X, Y), BATCH, shuffle=True):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        torch.autograd.grad(loss, model[0].weight, retain_graph=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        nn.utils.clip_grad_value_(model.parameters(), 0.1)
        scaler.step(optimizer)
        scaler.update()
        with torch.no_grad():
            model(x)
        losses.append(float(loss))
    scheduler.step()
    return losses


METHODS = [name for name in vars(watch.Watcher) if name.startswith(("on_", "before_"))]
OWN = ["_rich", "_layered", "_enter", "_leave", "_begin_layer", "_evaluate", "_evidence",
       "_record_step", "_used_calls", "_weights_now", "_learn_names", "_keep_end"]  # fmt: skip
PARTS = ["fingerprint", "digest_and_content", "measures", "digests", "sample", "tensors_in",
         "random_states", "environment", "group_of", "settings_of", "plain",
         "_operations", "is_lazy"]  # fmt: skip


def fail(*_, **__):
    raise OSError("planted")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [m for m in METHODS if m != "on_failure"] + OWN + PARTS)
def test_a_failure_of_the_doctor_stays_with_it(name, monkeypatch):
    _, *plain = run_once(busy, traced=False)
    if name in PARTS:
        places = recorder, follower, passes, backward, feeding, optimizers
        holders = [place for place in places if hasattr(place, name)]
        assert holders
        for module in holders:
            monkeypatch.setattr(module, name, fail)
    else:
        kept = property(fail) if name in ("_rich", "_layered") else fail
        monkeypatch.setattr(recorder.Recorder, name, kept)
    record, *traced = run_once(busy, traced=True)
    assert traced[0] == plain[0]
    assert all(equal(a, b) for a, b in zip(traced[1], plain[1], strict=True))
    assert torch.equal(traced[2][0], plain[2][0]) and traced[2][1:] == plain[2][1:]
    assert any("planted" in note for note in record.notes), record.notes


@pytest.mark.filterwarnings("ignore")
def test_a_failure_is_noted_in_the_report(monkeypatch):
    monkeypatch.setattr(recorder.Recorder, "on_loader", fail)
    records = [run_once(busy, traced=True)[0] for _ in range(2)]
    assert "could not follow a loader (OSError: planted)" in " ".join(
        compare(*records).explain().split()
    )


# What was in place before is in place again


def patched():
    """Return what a trace may put something else in the place of."""
    optimizers = [torch.optim.Optimizer, *watch._overriding(torch.optim.Optimizer, "zero_grad")]
    schedule = torch.optim.lr_scheduler.LRScheduler
    schedulers = [schedule, *watch._overriding(schedule, "step")]
    places = [
        (nn.Module, "__call__"),
        (nn.Module, "zero_grad"),
        (torch.autograd, "backward"),
        (torch.autograd, "grad"),
        (nn.utils, "clip_grad_value_"),
        (nn.utils.clip_grad, "clip_grad_value_"),
        (nn.utils.clip_grad, "_clip_grads_with_norm_"),
        (torch.amp.GradScaler, "scale"),
        (torch.amp.GradScaler, "unscale_"),
        (DataLoader, "__iter__"),
        (torch.utils.data.dataloader._BaseDataLoaderIter, "_next_index"),
        *((kind, "zero_grad") for kind in optimizers),
        *((kind, "step") for kind in schedulers),
    ]
    counts = len(optim._global_optimizer_pre_hooks), len(optim._global_optimizer_post_hooks)
    return {(place, name): vars(place).get(name) for place, name in places} | {"hooks": counts}


def test_everything_is_put_back():
    before = patched()
    with trace(net()):
        inside = patched()
        assert len([key for key in before if before[key] is not inside[key]]) > 15
    assert patched() == before


def test_what_the_program_patched_meanwhile_stays(monkeypatch):
    monkeypatch.setattr(nn.Module, "__call__", nn.Module.__call__)  # put back at the end
    calls, model = [], net()
    with trace(model) as first:
        wrapped = nn.Module.__call__

        def noted(self, *args, **kwargs):
            calls.append(self)
            return wrapped(self, *args, **kwargs)

        monkeypatch.setattr(nn.Module, "__call__", noted)
        train(model)
    assert nn.Module.__call__ is noted
    count = len(calls)
    with trace(model) as second:  # around the program's function, around the first trace's
        train(model)
    assert nn.Module.__call__ is noted and len(calls) == 2 * count
    assert [len(step.calls) for step in (*first.steps, *second.steps)] == [1] * 6
    assert len(second.steps[0].calls[0].layers) == len(first.steps[0].calls[0].layers)


def test_what_the_program_puts_back_too_late_tells_nobody():
    model = net()
    with trace(model):
        kept = torch.autograd.backward
    original = torch.autograd.backward
    torch.autograd.backward = kept
    try:
        with trace(model) as record:
            train(model)
    finally:
        torch.autograd.backward = original
    assert [step.backwards for step in record.steps] == [1, 1, 1]


def test_a_context_manager_that_is_entered_by_hand():
    model = net()
    manager = trace(model)
    record = manager.__enter__()
    train(model)
    manager.__exit__(None, None, None)
    train(model)
    assert len(record.steps) == 3 and not watch.WATCHERS


def test_an_exception_in_the_block_is_the_programs():
    model, before = net(), patched()
    with pytest.raises(ZeroDivisionError), trace(model) as record:
        train(model)
        raise ZeroDivisionError
    assert len(record.steps) == 3 and patched() == before


# Weights of other kinds


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ParameterDict({"real": nn.Parameter(torch.randn(FEATURES, CLASSES))})
        self.phase = nn.Parameter(torch.randn(CLASSES, dtype=torch.cfloat))
        self.small = nn.Parameter(torch.randn(CLASSES, dtype=torch.bfloat16))
        self.wide = nn.Parameter(torch.randn(CLASSES, dtype=torch.float64))
        self.tied = self.wide
        self.empty = nn.Parameter(torch.zeros(0, 3))
        self.table = nn.Embedding(4, CLASSES, sparse=True)
        self.register_buffer("mask", torch.eye(CLASSES).to_sparse())
        self.register_buffer("rows", torch.eye(CLASSES).to_sparse_csr())
        self.register_buffer(
            "coarse", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
        )
        self.register_buffer("ragged", torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]))
        self.register_buffer("nowhere", torch.zeros(3, device="meta"))
        self.register_buffer("flag", torch.tensor(True))
        self.register_buffer("none", None)

    def forward(self, x):
        found = x @ self.parts["real"] + self.phase.abs() + self.small + self.tied
        return (found + self.table(torch.arange(len(x)) % 4)).float()


@pytest.mark.filterwarnings("ignore")
def test_weights_and_buffers_of_any_kind(tmp_path):
    def run():
        torch.manual_seed(1)
        model = Odd()
        with trace(model) as record:
            train(model, optimizer=sgd(model))
        record.save(tmp_path / "trace")
        return type(record).load(tmp_path / "trace")

    report = compare(run(), run())
    report.assert_identical()
    assert all("nowhere" in note or "meta" in note for note in report.notes), report.notes


def test_a_lazy_model():
    def run():
        torch.manual_seed(1)
        model = nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(CLASSES))
        with trace(model) as record:
            model(X)
            train(model)
        return record

    report = compare(run(), run())
    report.assert_identical()
    assert not report.notes


def test_a_model_that_begins_without_values():
    def run():
        torch.manual_seed(1)
        with torch.device("meta"):
            model = nn.Linear(FEATURES, CLASSES)
        with trace(model) as record:
            model.to_empty(device="cpu")
            model.reset_parameters()
            train(model)
        return record

    report = compare(run(), run())
    report.assert_identical()
    assert report.facts[0] == ("initial weights", "2 tensors, 21 values")


def test_another_number_format_in_one_run():
    def run(changes):
        torch.manual_seed(1)
        model = net()
        with trace(model) as record:
            train(model)
            if changes:
                model.double()
        return record

    report = compare(run(False), run(True))
    assert report.first_difference.what == "final weights"
