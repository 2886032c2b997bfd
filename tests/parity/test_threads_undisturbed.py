"""Each public port ends with the same weights and random numbers as without a trace."""

import logging
import random
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import parity_loops
import pytest
import test_threads_batch
import test_threads_forward
import test_threads_gradient
import test_threads_harmless
import test_threads_update
import threads
import torch

from course_utils.parity import trace

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

FILES = (
    test_threads_batch,
    test_threads_forward,
    test_threads_gradient,
    test_threads_harmless,
    test_threads_update,
)
TABLES = ("BATCHES", "CHANCE", "THREADS", "SCHEDULERS", "GROUPS")
ALL = {
    f"{name}, {what}": thread
    for what in ("raw", "port")
    for file in FILES
    for table in TABLES
    for name, thread in getattr(file, table, {}).items()
}


def ended(run, around, monkeypatch):
    """Return what a run ends with, where `around` stands in for the trace."""
    found = []

    @contextmanager
    def watched(model):
        with around(model) as record:
            yield record
        values = [t.detach().clone() for t in (*model.parameters(), *model.buffers())]
        found.append((values, torch.get_rng_state(), random.getstate(), np.random.get_state()[1]))

    for module in (parity_loops, threads, *FILES):
        if hasattr(module, "trace"):
            monkeypatch.setattr(module, "trace", watched)
    torch._dynamo.reset()
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    run()
    return found.pop()


@contextmanager
def no_trace(model):
    yield None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ALL)
def test_a_public_port_does_not_notice_its_trace(name, monkeypatch):
    thread = ALL[name]
    if name.endswith("raw"):
        run = lambda: thread.raw(thread.plan)  # noqa: E731
    else:
        run = lambda: thread.lightning(replace(thread.plan, **thread.port))  # noqa: E731
    plain, traced = (ended(run, around, monkeypatch) for around in (no_trace, trace))
    assert all(
        torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
        for a, b in zip(plain[0], traced[0], strict=True)
    )
    assert torch.equal(plain[1], traced[1]) and plain[2] == traced[2]
    assert (plain[3] == traced[3]).all()
