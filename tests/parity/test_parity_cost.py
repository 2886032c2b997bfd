"""What is read cheaply at every step is what reading it in full would give."""

import random

import numpy as np
import pytest
import torch

from course_utils.parity import chance
from course_utils.parity.fingerprint import BUCKETS, CHUNK, digests, fingerprint, measures, sample
from course_utils.parity.optimizers import Groups


@pytest.fixture(autouse=True)
def generators_restored():
    python, numpy = random.getstate(), np.random.get_state()
    yield
    random.setstate(python)
    np.random.set_state(numpy)


DRAWS = {"Python": random.random, "NumPy": np.random.rand, "torch": lambda: torch.rand(1)}
PLACES = {"torch": 0, "Python": 1, "NumPy": 2}


@pytest.mark.parametrize("in_full", [False, True])
@pytest.mark.parametrize("name", DRAWS)
def test_each_draw_changes_the_state_of_its_generator_alone(name, in_full, monkeypatch):
    if in_full:  # where memory does not look as expected
        monkeypatch.setattr(chance, "_python_lies_as_expected", lambda: False)
        monkeypatch.setattr(chance, "_numpy_lies_as_expected", lambda numpy: False)
    before = chance.random_states()
    assert chance.random_states() == before  # looking draws nothing
    DRAWS[name]()
    parted = chance.parted(before, chance.random_states())
    assert [place for place, other in enumerate(parted) if other] == [PLACES[name]]


def test_a_seed_gives_the_same_state_again():
    def seeded():
        random.seed(3)
        np.random.seed(3)
        torch.manual_seed(3)
        return chance.random_states()

    first = seeded()
    random.random(), np.random.rand(700), torch.rand(3)
    assert chance.random_states() != first
    assert seeded() == first


def test_half_of_a_pair_of_normal_numbers_counts():
    random.seed(3)
    random.gauss(0, 1)  # draws two, and keeps one of them
    kept = chance._python_state()
    random.gauss(0, 1)
    assert chance._python_state() != kept


def test_memory_is_read_here():
    assert chance._python_lies_as_expected()
    assert chance._numpy_lies_as_expected(np.random.mtrand)


def test_another_generator_of_numpy_is_read_too():
    other = np.random.PCG64(0)
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(other)
    try:
        state = chance._numpy_state()
        np.random.rand()
        assert chance._numpy_state() != state
    finally:
        np.random.set_bit_generator(before)


CHANGES = {
    "a rate": lambda o: o.param_groups[0].update(lr=0.2),
    "a setting": lambda o: o.param_groups[0].update(weight_decay=0.1),
    "a pair": lambda o: o.param_groups[0].update(betas=(0.8, 0.9)),
    "a parameter less": lambda o: o.param_groups[0]["params"].pop(),
    "a group less": lambda o: o.param_groups.pop(),
    "a tensor in place": lambda o: o.param_groups[1]["lr"].fill_(0.5),
    "a tensor of a pair, in place": lambda o: o.param_groups[1]["betas"][0].fill_(0.5),
}


@pytest.mark.parametrize("change", CHANGES)
def test_groups_are_read_anew_when_something_in_them_changes(change):
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    rate = torch.tensor(0.1) if change == "a tensor in place" else 0.1
    optimizer = torch.optim.Adam(
        [{"params": weights[:2]}, {"params": weights[2:], "lr": rate}], foreach=False
    )
    if "pair, in" in change:
        optimizer.param_groups[1]["betas"] = torch.tensor(0.9), 0.999
    numbers = {id(weight): number for number, weight in enumerate(weights)}
    groups = Groups()
    before = groups.read(optimizer, numbers)
    assert groups.read(optimizer, numbers) == before
    CHANGES[change](optimizer)
    after = groups.read(optimizer, numbers)
    assert after != before
    assert after == Groups().read(optimizer, numbers)


def test_groups_that_stay_are_read_once():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    groups, numbers = Groups(), {}
    assert groups.read(optimizer, numbers) is groups.read(optimizer, numbers)
    assert groups.read(optimizer, {}) is not groups.read(optimizer, numbers)  # other parameters


SHAPES = [(3,), (5, 7), (CHUNK + 1,), (2, CHUNK)]


def test_portions_give_what_the_whole_gives():
    torch.manual_seed(0)
    tensors = [torch.randn(shape) for shape in SHAPES]
    found = measures(tensors)
    assert found.digests == digests(tensors) == tuple(map(fingerprint, tensors))
    assert found.digests == tuple(fingerprint(t.flip(0).flip(0)) for t in tensors)
    assert found.norms == pytest.approx([float(t.norm()) for t in tensors], rel=1e-5)
    assert found.top == max(float(t.abs().max()) for t in tensors)
    assert torch.equal(found.sample, sample(tensors))
    assert len(found.sketch) == BUCKETS
    doubled = measures([2 * t for t in tensors])
    assert torch.allclose(doubled.sketch, 2 * found.sketch, rtol=1e-5)


def test_what_was_read_is_not_changed_by_reading_more():
    one, other = torch.randn(100), torch.randn(100)
    first = measures([one])
    kept = first.sample.clone()
    measures([other])
    sample([other])
    assert torch.equal(first.sample, kept)


def test_values_can_be_read_in_inference_mode_and_outside_in_turn():
    tensor = torch.randn(CHUNK + 5)
    with torch.inference_mode():
        inside = measures([tensor, tensor * 1]).digests
    assert measures([tensor, tensor * 1]).digests == inside
    assert fingerprint(tensor) == inside[0]
