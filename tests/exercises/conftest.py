"""What the tests of the exercises share."""

import random

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    """Keep what is solved here out of everybody's progress."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def draws():
    """Return a function: the states of all random generators."""

    def states():
        numbers = np.random.get_state()
        return (torch.get_rng_state().tolist(), random.getstate(), numbers[1].tolist(), numbers[2])

    return states
