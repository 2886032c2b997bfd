"""Runs that share their batches among workers, or take them in parts."""

import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.parity import ParityError, Trace, compare, files, join, trace

STEPS, BATCH = 6, 16


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def batches():
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        yield torch.randn(BATCH, 5, generator=generator), torch.arange(BATCH) % 3


def whole(model, factor=1.0):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for x, y in batches():
        optimizer.zero_grad()
        (factor * F.cross_entropy(model(x), y)).backward()
        optimizer.step()


def in_parts(model, parts=2, divide=True):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for x, y in batches():
        optimizer.zero_grad()
        for part in range(parts):
            loss = F.cross_entropy(model(x[part::parts]), y[part::parts])
            (loss / parts if divide else loss).backward()
        optimizer.step()


def in_blocks(model, factor=1):
    """Take the first half of each batch, then the second, with all inputs times `factor`."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for x, y in batches():
        optimizer.zero_grad()
        for half, labels in zip((factor * x).split(8), y.split(8), strict=True):
            (F.cross_entropy(model(half), labels) / 2).backward()
        optimizer.step()


def worker_traces(average=True, starts=(0, 0), steps=STEPS):
    """Train two copies in turn as two workers do, and return their traces."""
    models = [network() for _ in range(2)]
    for model, shift in zip(models, starts, strict=True):
        model[0].bias.data += shift
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.01) for m in models]
    with trace(models[0]) as first, trace(models[1]) as second:
        for number, (x, y) in enumerate(batches()):
            for rank, model in enumerate(models):
                model.zero_grad()
                F.cross_entropy(model(x[rank::2]), y[rank::2]).backward()
            if average:
                for a, b in zip(*(m.parameters() for m in models), strict=True):
                    mean = a.grad / 2 + b.grad / 2
                    a.grad, b.grad = mean, mean.clone()
            optimizers[0].step()
            if number < steps:
                optimizers[1].step()
    return first, second


def traced(loop, *args, **kwargs):
    model = network()
    with trace(model) as record:
        loop(model, *args, **kwargs)
    return record


def test_parts_of_a_batch_are_equal_to_the_whole_within_rounding():
    report = compare(traced(whole), traced(in_parts))
    assert report.verdict == "equal within rounding"
    assert "went through in other parts" in report.explain()
    assert "batches of 16" in report.explain() and "batches of 8 + 8" in report.explain()


def test_in_any_number_of_parts_and_in_both_orders():
    records = traced(in_parts, parts=4), traced(in_parts, parts=2)
    assert compare(*records).verdict == compare(*records[::-1]).verdict == "equal within rounding"


@pytest.mark.parametrize("turned", [False, True])
def test_a_loss_that_was_not_divided_is_found(turned):
    records = [traced(whole), traced(in_parts, divide=False)]
    report = compare(*(records[::-1] if turned else records))
    assert report.verdict == "different"
    assert report.diagnosis.name == "gradients a constant factor apart"
    assert "2 batches make one step" in report.diagnosis.cause


def test_parts_in_another_mode_are_found():
    model = network()
    with trace(model) as record:
        model.eval()
        in_parts(model)
    report = compare(traced(whole), record)
    assert (report.verdict, report.first_difference.what) == ("different", "mode")


def test_dropout_that_is_off_for_the_parts_is_found_as_the_mode():
    records = []
    for loop, training in ((whole, True), (in_parts, False)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 3)).train(training)
        with trace(model) as record:
            loop(model)
        records.append(record)
    report = compare(*records)
    assert (report.verdict, report.first_difference.what) == ("different", "mode")


def test_other_samples_in_parts_are_still_another_batch():
    report = compare(traced(whole), traced(in_blocks, factor=2))
    assert (report.verdict, report.first_difference.what) == ("different", "batch")


def test_two_workers_are_identical_to_two_halves_and_equal_to_the_whole():
    joined = join(worker_traces())
    assert compare(traced(in_parts), joined).verdict == "identical"
    assert compare(traced(whole), joined).verdict == "equal within rounding"
    assert len(joined.losses) == STEPS


def test_one_worker_joined_is_itself():
    assert compare(traced(whole), join([traced(whole)])).verdict == "identical"


@pytest.mark.parametrize(
    ("faults", "complaint"),
    [
        ({"average": False}, "gradients of workers 0 and 1 part at step 1"),
        ({"starts": (0, 0.1)}, "start from different weights"),
        ({"steps": STEPS - 1}, "Worker 0 made 6 steps, worker 1 5"),
    ],
)
def test_workers_that_part_are_not_joined(faults, complaint):
    with pytest.raises(ParityError, match=complaint):
        join(worker_traces(**faults))


def test_weights_changed_in_one_worker_are_found():
    first, second = worker_traces()
    second.steps[2] = replace(second.steps[2], weight=first.steps[1].weight)
    with pytest.raises(ParityError, match="weights of workers 0 and 1 part at step 3"):
        join([first, second])


def test_halves_that_were_dealt_otherwise_are_the_same_batch():
    assert compare(traced(in_parts), traced(in_blocks)).verdict == "equal within rounding"


def test_workers_with_the_same_samples_are_found():
    with pytest.raises(ParityError, match="given the same samples in each step"):
        join([traced(whole), traced(whole)])


@pytest.mark.parametrize("ranks", [[(0, 3), (1, 3)], [(1, 2), (0, 2)], [(0, 2), (0, 2)]])
def test_a_worker_that_is_missing_or_misplaced_is_found(ranks):
    traces = worker_traces()
    for record, worker in zip(traces, ranks, strict=True):
        record.worker = worker
    with pytest.raises(ValueError, match="one of each worker of a run"):
        join(traces)


def test_nothing_to_join():
    with pytest.raises(ValueError, match="got no traces"):
        join([])


def test_a_saved_trace_compares_like_the_one_it_was(tmp_path):
    record = traced(whole)
    record.save(tmp_path / "trace.pt")
    loaded = Trace.load(tmp_path / "trace.pt")
    assert compare(record, loaded).verdict == "identical"
    other = traced(whole, factor=3.0)
    assert compare(loaded, other).explain() == compare(record, other).explain()


class Payload:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("content", [b"", b"no trace", pickle.dumps(Payload(), 2)])
def test_what_is_no_trace_is_refused(tmp_path, content, capsys):
    path = tmp_path / "trace.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a trace"):
        Trace.load(path)
    assert "executed" not in capsys.readouterr().out


def test_other_tensors_are_no_trace(tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "trace.pt")
    with pytest.raises(ValueError, match="not written by `trace.save"):
        Trace.load(tmp_path / "trace.pt")
    files.write(tmp_path / "trace.pt", {"weights": torch.zeros(2)})
    with pytest.raises(ValueError, match="holds a dict"):
        Trace.load(tmp_path / "trace.pt")
    files.write(tmp_path / "trace.pt", {"trace": {"steps": [1]}})
    with pytest.raises(ValueError, match="no whole trace"):
        Trace.load(tmp_path / "trace.pt")
