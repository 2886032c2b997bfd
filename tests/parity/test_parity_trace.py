"""The trace leaves no trace, and the report says what was found."""

import logging

import pytest
import torch
from matplotlib.figure import Figure
from parity_loops import (
    EPOCH,
    FEATURES,
    Plan,
    lightning,
    loader,
    mlp,
    mlp_with_dropout,
    mlp_with_norm,
    raw,
    sgd,
)
from torch import nn
from torch.nn import functional as F
from torch.optim import optimizer as optim

from course_utils.parity import ParityError, compare, trace
from course_utils.parity.fingerprint import digest_and_content, fingerprint, projection

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

BACKWARD, CALL = torch.autograd.backward, nn.Module.__call__


def step(model, x=None, factor=1.0):
    model(torch.ones(2, 6) if x is None else x).sum().mul(factor).backward()
    torch.optim.SGD(model.parameters(), 0.1).step()


def hooks(model):
    return [
        *(len(module._forward_pre_hooks) for module in model.modules()),
        *(len(module._forward_hooks) for module in model.modules()),
        len(optim._global_optimizer_pre_hooks),
        len(optim._global_optimizer_post_hooks),
    ]


def test_nothing_stays_behind():
    model = mlp()
    before = hooks(model)
    with trace(model) as record:
        assert hooks(model) != before
        assert torch.autograd.backward is not BACKWARD
        step(model)
    assert hooks(model) == before
    assert torch.autograd.backward is BACKWARD and nn.Module.__call__ is CALL
    step(model)
    assert len(record.steps) == 1


def test_nothing_stays_behind_after_an_exception():
    model = mlp()
    before = hooks(model)
    with pytest.raises(RuntimeError), trace(model) as record:
        step(model)
        model(torch.ones(2, 5))
    assert hooks(model) == before
    assert torch.autograd.backward is BACKWARD and nn.Module.__call__ is CALL
    assert len(record.steps) == 1
    assert list(record.end.parameters) == list(record.start.parameters)


def test_an_exception_caught_inside_the_block_does_not_confuse_it():
    model = mlp()
    with trace(model) as record:
        with pytest.raises(RuntimeError):
            model(torch.ones(2, 5))
        step(model)
    assert len(record.steps[0].calls) == 1


@pytest.mark.parametrize("build", [mlp_with_dropout, mlp_with_norm])
def test_tracing_changes_nothing(build):
    def train(model):
        optimizer, batches = torch.optim.Adam(model.parameters(), 0.01), loader(None)
        for _ in range(2):
            for x, y in batches:
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
        return model.state_dict(), torch.get_rng_state()

    torch.manual_seed(1)
    plain, plain_random = train(build())
    torch.manual_seed(1)
    model = build()
    with trace(model):
        traced, traced_random = train(model)
    assert all(torch.equal(plain[name], traced[name]) for name in plain)
    assert torch.equal(plain_random, traced_random)


def test_two_models_at_once():
    one, other = mlp(), mlp()
    with trace(one) as first, trace(other) as second:
        step(one)
        step(other)
        step(one)
    assert (len(first.steps), len(second.steps)) == (2, 1)
    assert torch.autograd.backward is BACKWARD and nn.Module.__call__ is CALL
    assert hooks(one) == hooks(mlp())


def test_what_cannot_be_traced():
    with pytest.raises(TypeError, match="expected an nn.Module, got str"), trace("model"):
        pass
    with pytest.raises(ValueError, match="ReLU has no parameters"), trace(nn.ReLU()):
        pass


def test_what_cannot_be_compared():
    model = mlp()
    with trace(model) as empty:
        model(torch.ones(2, 6))
    record = raw(Plan())
    with pytest.raises(ValueError, match="mine recorded no optimizer step"):
        compare(empty, record, names=("mine", "yours"))
    with pytest.raises(ValueError, match="Lightning recorded no optimizer step"):
        compare(record, empty)
    with pytest.raises(TypeError, match="takes two traces, but raw loop is a Sequential"):
        compare(model, record)
    with pytest.raises(TypeError, match="but Lightning is a NoneType"):
        compare(record, None)


def test_minus_zero_is_zero():
    one, other = torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0])
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one) != fingerprint(torch.tensor([1.0, 0.0]))
    contents = [digest_and_content(x)[1] for x in (one, other, one.flip(0))]
    assert len(set(contents)) == 1
    records = []
    for sign in (1.0, -1.0):
        torch.manual_seed(1)
        model = mlp()
        with trace(model) as record:
            step(model, torch.zeros(2, 6) * sign)
        records.append(record)
    compare(*records).assert_identical()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_fingerprints_of_other_formats(dtype):
    values = torch.tensor([[0, 1, 1], [0, 0, 1]]).to(dtype)
    assert fingerprint(values) == fingerprint(values.clone())
    assert fingerprint(values) == fingerprint(values.t().contiguous().t())
    assert fingerprint(values) != fingerprint(values.flip(1))


def test_projections_are_linear_and_keep_lengths():
    a, b = (torch.randn(5000, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    assert torch.allclose(projection([a]) - projection([b]), projection([a - b]), atol=1e-4)
    assert float(projection([a]).norm() / a.norm()) == pytest.approx(1, abs=0.2)


def test_steps_are_counted_from_one_and_losses_kept():
    record = raw(Plan())
    assert len(record.losses) == len(record.steps) == 2 * EPOCH
    assert all(loss > 0 for loss in record.losses)
    report = compare(record, raw(Plan(loss=lambda z, y: 2 * F.cross_entropy(z, y))))
    assert report.first_difference.step == 1
    assert str(report.first_difference) == "in the gradient (0.weight), at step 1"
    assert report.losses == (record.losses, [2 * loss for loss in record.losses[:1]] +
                             report.losses[1][1:])  # fmt: skip
    mine = ([1.0, 2.0], [3.0, 4.0])
    assert compare(record, record, losses=mine).losses == mine


def test_a_loop_whose_loss_was_not_seen():
    model = mlp()
    with trace(model) as record:
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)  # as torch.func computes them
        torch.optim.SGD(model.parameters(), 0.1).step()
    assert record.losses[0] != record.losses[0]
    assert isinstance(compare(record, record).plot(), Figure)


def test_nan_losses_do_not_crash():
    broken = raw(Plan(loss=lambda z, y: F.cross_entropy(z, y) * float("nan")))
    for runs in ((broken, raw(Plan())), (lightning(Plan()), broken)):
        report = compare(*runs)
        assert report.verdict == "different"
        assert report.first_difference.what == "gradient"
        assert report.explain()
        assert report._repr_html_()
        assert isinstance(report.plot(), Figure)
    compare(broken, broken).assert_identical()


def test_nan_in_one_run_only_is_no_rounding():
    """Both begin equal within rounding, then one has a NaN."""
    calls = iter(range(1000))

    def loss(logits, y):
        value = (logits.exp().sum(1).log() - logits[torch.arange(len(y)), y]).sum() / len(y)
        return value * (float("nan") if next(calls) == 10 else 1)

    report = compare(raw(Plan(optimizer=sgd(), loss=loss)), lightning(Plan(optimizer=sgd())))
    assert report.verdict == "different"
    assert report.first_difference.step == 11


def test_assert_identical():
    record = raw(Plan())
    compare(record, lightning(Plan())).assert_identical()
    report = compare(record, lightning(Plan(seed=2)))
    with pytest.raises(ParityError) as raised:
        report.assert_identical()
    assert isinstance(raised.value, AssertionError)
    assert report.explain() in str(raised.value)


def test_the_report_as_text():
    report = compare(raw(Plan()), lightning(Plan()), names=("by hand", "ported"))
    assert str(report) == report.explain()
    assert str(report).startswith("✓ identical: by hand and ported agree at all 12 steps")
    assert "12, in the same order" in str(report)
    assert (report.first_difference, report.diagnosis) == (None, None)
    report = compare(raw(Plan()), lightning(Plan(epochs=1)))
    assert str(report).startswith("✗ different: raw loop and Lightning first differ in the length")
    assert max(map(len, str(report).splitlines())) <= 120


def test_the_report_in_a_notebook(monkeypatch):
    report = compare(raw(Plan()), lightning(Plan(seed=2)), names=("<raw>", "a & b"))
    page = report._repr_html_()
    assert "&lt;raw&gt;" in page
    assert "a &amp; b" in page
    assert "<raw>" not in page
    assert "<code>seed_everything(seed)</code>" in page
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda thing, **options: shown.append(thing))
    report._ipython_display_()
    assert shown[0]["text/html"] == page
    assert shown[0]["text/plain"] == report.explain()
    assert isinstance(shown[1], Figure)


def test_the_plot_marks_where_the_runs_part():
    report = compare(raw(Plan()), lightning(Plan(zero_grad="never")))
    labels = [line.get_label() for line in report.plot().axes[0].get_lines()]
    assert labels == ["raw loop", "Lightning", "first difference: step 2"]
    labels = [line.get_label() for line in compare(raw(Plan()), raw(Plan())).plot().axes[0].lines]
    assert labels == ["raw loop", "Lightning"]


def test_repr_of_a_trace():
    assert repr(raw(Plan())) == "<Trace of 12 steps, 163 weights, on cpu>"


class Small(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.layer = nn.Linear(FEATURES, width)

    def forward(self, x):
        return self.layer(x)


class Smaller(Small):
    """A class that inherits its constructor's work."""


class Inheriting(nn.Linear):
    """A class without a constructor of its own."""


def script(kind, steps=3):
    torch.manual_seed(0)
    kind(FEATURES, 3) if kind is Inheriting else Smaller()  # another model comes first
    model, _ = (kind(FEATURES, 3) if kind is Inheriting else kind() for _ in "ab")  # the first
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, FEATURES)).sum().backward()
        optimizer.step()


def test_a_class_traces_the_first_object_that_a_script_builds():
    with trace(Small) as record:
        script(Small)
    torch.manual_seed(0)
    Smaller()
    model = Small()
    with trace(model) as expected:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, FEATURES)).sum().backward()
            optimizer.step()
    compare(record, expected).assert_identical()
    assert len(record.steps) == 3


@pytest.mark.parametrize("kind", [Small, Inheriting])
def test_the_class_is_as_before_afterwards(kind):
    before = vars(kind).get("__init__"), kind.__init__
    with pytest.raises(RuntimeError), trace(kind):
        script(kind)
        raise RuntimeError
    assert (vars(kind).get("__init__"), kind.__init__) == before


def test_a_class_of_which_none_is_built_is_an_error():
    with pytest.raises(ValueError, match="No Small was built"), trace(Small):
        Smaller()
