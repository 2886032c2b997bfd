"""An interrupted Trainer, in a notebook and outside."""

import signal

import lightning as L
import pytest
import torch
from jupyter_client.manager import start_new_kernel
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from course_utils import kernel

PATIENCE = 120  # seconds for one message of a kernel, on a slow machine

START = """
import lightning as L, torch
from course_utils.models import LitMLP
from course_utils.session import start

start(42)
"""
FIT = """
class Ready(L.Callback):
    def on_train_start(self, trainer, pl_module):
        print("training", flush=True)


digits = torch.utils.data.TensorDataset(torch.rand(8, 1, 28, 28), torch.zeros(8, dtype=torch.long))
quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False)
trainer = L.Trainer(accelerator="cpu", max_steps=-1, max_epochs=-1, callbacks=[Ready()], **quiet)
trainer.fit(LitMLP(), torch.utils.data.DataLoader(digits, batch_size=8))
"""


class Interrupted(L.LightningModule):
    def __init__(self, by):
        super().__init__()
        self.layer, self.by = nn.Linear(2, 1), by

    def training_step(self, batch, batch_idx):
        raise self.by

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def fit(monkeypatch):
    """Return a function that trains until something is raised; it leaves Lightning as it was."""
    for name in kernel.ENTRIES:
        monkeypatch.setattr(L.Trainer, name, getattr(L.Trainer, name))
    handler = signal.getsignal(signal.SIGINT)  # Lightning leaves it switched off

    def run(by):
        batches = DataLoader(TensorDataset(torch.rand(4, 2)))
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = L.Trainer(accelerator="cpu", max_epochs=1, **quiet)
        trainer.fit(Interrupted(by), batches)

    yield run
    signal.signal(signal.SIGINT, handler)


def test_in_a_notebook_an_interrupt_ends_as_in_a_loop(fit, monkeypatch):
    monkeypatch.setattr(kernel, "in_notebook", lambda: True)
    kernel.hand_on_interrupts()
    once = L.Trainer.fit
    kernel.hand_on_interrupts()
    assert L.Trainer.fit is once
    with pytest.raises(KeyboardInterrupt) as end:
        fit(KeyboardInterrupt())
    assert end.value.__context__ is None


@pytest.mark.parametrize("by", [SystemExit(3), RuntimeError("as it was")])
def test_other_ends_stay_as_they_are(fit, monkeypatch, by):
    monkeypatch.setattr(kernel, "in_notebook", lambda: True)
    kernel.hand_on_interrupts()
    with pytest.raises(type(by)) as end:
        fit(by)
    assert end.value is by


def test_a_script_ends_as_lightning_wants_it(fit):
    kernel.hand_on_interrupts()
    with pytest.raises(SystemExit):
        fit(KeyboardInterrupt())


def test_the_stop_button_leaves_a_kernel_that_goes_on():
    manager, client = start_new_kernel(extra_arguments=["--log-level=ERROR"])
    try:
        assert "error" not in dict(messages(client, START))
        seen = {}
        for kind, content in messages(client, FIT):
            seen[kind] = content
            if kind == "stream" and "training" in content["text"]:
                manager.interrupt_kernel()
        assert seen["error"]["ename"] == "KeyboardInterrupt"
        after = dict(messages(client, "print(trainer.interrupted)"))
        assert after["stream"]["text"] == "True\n"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def messages(client, code):
    """Run a cell, and give what the kernel says about it until it is idle: kind, content."""
    asked = client.execute(code, stop_on_error=False)
    while True:
        message = client.get_iopub_msg(timeout=PATIENCE)
        if message["parent_header"].get("msg_id") != asked:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] == "idle":
            return
        yield kind, content
