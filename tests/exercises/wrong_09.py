"""What learners mend wrongly in the clinic, and what they must read: how far they have come.

An edit is what is exchanged in the worked answer (a pair, or several), or a cell's code.
"""


def again(number):
    """Return a class that mends nothing."""
    return f"class Mended{number}(Port{number}):\n    note = 'mended'\n"


def also(number, line):
    """Return a class with another learning rate, the usual guess."""
    return f"class Mended{number}(Port{number}):\n    {line}\n"


RATE = "configure_optimizers = lambda self: torch.optim.SGD(self.parameters(), lr=0.05)"
LONGER = "flags = {'max_epochs': 5}"
REPORTS = "Every weight is the same at every step, and still the loop reports"

WRONG = {
    1: {
        "nothing mended": (again(1), "part at step 2"),
        "only the interval": (
            ("self.trainer.estimated_stepping_batches", "self.trainer.max_epochs"),
            "part at step 2",
        ),
        "only the length": ((', "interval": "step"', ""), "part at step 2"),
        "one epoch's batches": (
            ("estimated_stepping_batches", "num_training_batches"),
            "part at step 2",
        ),
        "no schedule": (also(1, RATE), "part at step 1"),
    },
    2: {
        "nothing mended": (again(2), "part at step 1"),
        "the last batch as the others": (("loss * 2 if", "loss if"), "part at step 4"),
        "every batch doubled": (("loss * 2 if last and batch_idx % 2 == 0 else loss", "loss * 2"),
                                "part at step 1"),
        "no accumulation": (also(2, 'flags = {"accumulate_grad_batches": 1}'), "part at step 1"),
    },
    3: {
        "nothing mended": (again(3), "part at step 1"),
        "no first look": (
            also(3, "flags = {'max_epochs': 3, 'num_sanity_val_steps': 0}"),
            "part at step 5",
        ),
        "never validated": (
            also(3, "flags = {'max_epochs': 3, 'limit_val_batches': 0}"),
            "your port nothing",
        ),
    },
    4: {
        "nothing mended": (again(4), "part at step 1"),
        "the old head stays": (also(4, "on_fit_start = print"), "part"),
        "after the optimizer again": (("configure_model", "on_train_start"), "part"),
    },
    5: {
        "nothing mended": (again(5), "part at step 1"),
        "never clipped": (("super().limit(optimizer)", "return"), "part at step 1"),
        "a scaled limit": (
            also(5, "limit = lambda self, o: self.clip_gradients(o, 1024.0, 'norm')"),
            "part at step",
        ),
    },
    6: {
        "nothing mended": (again(6), "part at step 1"),
        "once, at the start": (("on_train_epoch_start", "on_validation_end"), "part at step"),
        "no validation": (
            ("    def on_train_epoch_start(self):", "    flags = {'max_epochs': 3}\n\n"
             "    def on_train_epoch_start(self):"),
            "part in their length: 8 steps and 12",
        ),
    },
    7: {
        "nothing mended": (again(7), "part at step 1"),
        "decay on all": (
            also(7, "configure_optimizers = lambda self: adamw(self.parameters(), [])"),
            "part at step 1",
        ),
        "decay on none": (("weight.ndim > 1", "weight.ndim > 9"), "part at step 1"),
    },
    8: {
        "nothing mended": (again(8), "part at step 2"),
        "never cleared": (("optimizer.zero_grad()", "pass"), "part at step 2"),
        "cleared after backward": (
            "class Mended8(Port8):\n    def descend(self, optimizer, loss):\n"
            "        self.manual_backward(loss)\n        optimizer.zero_grad()\n"
            "        optimizer.step()\n",
            "no optimizer takes a step",
        ),
    },
    9: {
        "nothing mended": (again(9), REPORTS),
        "reset too early": (
            (
                '        self.log("val_acc", self.val_acc.compute())\n'
                "        self.val_acc.reset()",
                "        self.val_acc.reset()\n"
                '        self.log("val_acc", self.val_acc.compute())',
            ),
            REPORTS,
        ),
        "nothing reported": (('self.log("val_acc", self.val_acc.compute())', "pass"),
                             "your port nothing"),
    },
    10: {
        "nothing mended": (again(10), REPORTS),
        "another default": (
            "class Mended10(Port10):\n    def __init__(self, slope: float = 0.1):\n"
            "        super().__init__(slope=slope)\n",
            REPORTS,
        ),
        "kept without the slope": (("save_hyperparameters()", "save_hyperparameters({})"), REPORTS),
    },
}  # fmt: skip

ALSO_RIGHT = {
    1: {
        "counted by hand": (("self.trainer.estimated_stepping_batches", "3 * 4"),),
    },
    3: {
        "the parent's own hook": (("self.eval()", "L.LightningModule.eval(self)"),),
    },
    4: {
        "at once": (
            "class Mended4(Port4):\n    def __init__(self):\n        super().__init__()\n"
            "        self.net.head = nn.Linear(32, 10)\n"
        ),
    },
    6: {
        "the head has no modes": (("self.net.body.eval()", "self.net.eval()"),),
    },
    8: {
        "hidden from the other": (
            "class Mended8(Port8):\n    def descend(self, optimizer, loss):\n"
            "        for other in self.optimizers():\n            other.zero_grad()\n"
            "        self.manual_backward(loss)\n        optimizer.step()\n"
        ),
    },
    9: {
        "Lightning resets it": (
            "class Mended9(Port9):\n    def on_validation_epoch_end(self):\n"
            '        self.log("val_acc", self.val_acc)\n'
        ),
    },
    10: {
        "the default changed": (
            "class Mended10(Port10):\n    def __init__(self, slope: float = 0.5):\n"
            "        super().__init__(slope=slope)\n"
        ),
    },
}
