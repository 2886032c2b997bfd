"""What learners answer wrongly in lesson 4, and what of the explanation they must read.

An edit is what is exchanged in the worked answer (a pair, or several), or a cell's code.
"""

WRONG = {
    1: {
        "rest without a step": (("steps = 3 * 3", "steps = 6"), "the rest gets a step too"),
        "epochs joined": (("steps = 3 * 3", "steps = 8"), "epochs are not joined"),
        "one epoch": (("steps = 3 * 3", "steps = 3"), "that is one epoch"),
        "a step each batch": (("steps = 3 * 3", "steps = 48"), "a step for each batch"),
        "some steps": (("steps = 3 * 3", "steps = 10"), "make one epoch of 16 batches"),
        "an epoch too many": (("0.5**2", "0.5**3"), "but no step follows"),
        "never halved": (("0.5**2", "0.5**0"), "after the first epoch, and after the second"),
        "some rate": (("0.5**2", "0.3"), "how many epochs are over"),
        "a step too many": (("0.5**8", "0.5**9"), "it has moved eight times"),
        "by batches": (("0.5**8", "0.5**47"), "not with the batches"),
        "by epochs": (("0.5**8", "0.5**2"), "the rate by epochs"),
    },
    2: {
        "the rest dropped": (
            (
                (" or index == len(loader)", ""),
                ("for _ in range(2):", "for _ in range(2):\n        optimizer.zero_grad()"),
            ),
            "get no step in yours",
        ),
        "counted on": (
            (
                ("index % 4 == 0 or index == len(loader)", "count % 4 == 0"),
                ("    loader =", "    count = 0\n    loader ="),
                ("            loss =", "            count += 1\n            loss ="),
            ),
            "goes on from one epoch",
        ),
        "a step each batch": (("index % 4 == 0 or index == len(loader)", "True"), "for each batch"),
        "not divided": (("(loss / 4)", "loss"), "divided by 4"),
        "the rest divided by 2": (
            ("(loss / 4)", "(loss / (4 if index <= 4 else 2))"),
            "with the last two as well",
        ),
        "never cleared": (("                optimizer.zero_grad()\n", ""), "cleared after"),
        "no step": (("if index % 4 == 0 or index == len(loader)", "if loss < 0"), "no optimizer"),
    },
    3: {
        "clamped before the step": (
            (
                ('"on_before_optimizer_step": "d"', '"on_before_optimizer_step": "da"'),
                ('"on_train_batch_end": "a"', '"on_train_batch_end": ""'),
            ),
            "put back after it",
        ),
        "noise after the step": (
            (
                ('"on_before_optimizer_step": "d"', '"on_before_optimizer_step": ""'),
                ('"on_train_batch_end": "a"', '"on_train_batch_end": "da"'),
            ),
            "a gradient that is complete",
        ),
        "noise at the start": (
            (
                ('"on_before_optimizer_step": "d"', '"on_before_optimizer_step": ""'),
                ('"on_train_batch_start": ""', '"on_train_batch_start": "d"'),
            ),
            "a gradient that is complete",
        ),
        "limit before the noise": (
            (('": "d"', '": "bd"'), ("ebg", "eg")),
            "that is a flag",
        ),
        "the loop in the step": ((('"hc"', '"hegc"'), ("ebg", "b")), "calls `backward`"),
        "optimizer in the step": ((('"f"', '""'), ('"hc"', '"hcf"')), "configure_optimizers"),
        "a line left out": (("ebg", "eb"), "no place yet: `g`"),
    },
    4: {
        "the length limited": ((', "gradient_clip_algorithm": "value"', ""), "or single values"),
        "no limit": (
            (', "gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"', ""),
            "clipping in one",
        ),
        "interval forgotten": ((', "interval": "step"', ""), "per epoch in the other"),
        "no schedule": (
            (
                '"lr_scheduler": {"scheduler": schedule, "interval": "step"}',
                "",
            ),
            "your port: 0 scheduler steps",
        ),
        "Adam": (("AdamW", "Adam"), "the loop: AdamW; your port: Adam"),
        "never stopped": (("self.trainer.should_stop = True", "pass"), "goes on to step 20"),
        "stopped after the epoch": (
            ("if outputs", "if batch_idx == 3 and outputs"),
            "your port goes on",
        ),
        "another threshold": (("< 1.2", "< 1.4"), "your port stops at step"),
        "no epochs": (('"max_epochs": 5, ', ""), "5 epochs at most"),
        "flags as a text": ('flags = "max_epochs=5"', "should be a dictionary"),
    },
    5: {
        "set to zero again": (
            ('if not hasattr(self, "mean"):  # nothing was loaded', "if True:"),
            "called before `on_train_start`",
        ),
        "only the count": (
            ('state_dict["mean"]', '[0 * mean for mean in state_dict["mean"]]'),
            "the count is right, but the mean",
        ),
        "begun with the weights": (
            (
                "super().on_train_start(trainer, pl_module)",
                "self.count, self.mean = 1, [weight.clone() for weight in pl_module.parameters()]",
            ),
            "yours says 17",
        ),
        "not put on self": (
            (
                'self.count, self.mean = state_dict["count"], state_dict["mean"]',
                "count, mean = state_dict.values()",
            ),
            "put it on `self`",
        ),
    },
}

ALSO_RIGHT = {
    1: {"tensors": "steps = torch.tensor(9)\nby_epoch = 0.2\nby_step = 1 / 320"},
    2: {
        "the rest after the loop": (
            "def accumulate(data):\n"
            "    model = MLP(hidden=(32,))\n"
            "    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n"
            "    loader = data.train_dataloader()\n"
            "    for _ in range(2):\n"
            "        waiting = 0\n"
            "        for x, y in loader:\n"
            "            (F.cross_entropy(model(x), y) / 4).backward()\n"
            "            waiting += 1\n"
            "            if waiting == 4:\n"
            "                optimizer.step(), optimizer.zero_grad()\n"
            "                waiting = 0\n"
            "        if waiting:\n"
            "            optimizer.step(), optimizer.zero_grad()\n"
        ),
    },
    3: {"the limit by hand, after the noise": ((': "d"', ': "db"'), ("ebg", "eg"))},
    4: {
        "a callback stops": (
            "class Stop(L.Callback):\n"
            "    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):\n"
            "        trainer.should_stop = bool(outputs['loss'] < 1.2)\n"
            "class LitOwn(LitOwn):\n"
            "    def on_train_batch_end(self, outputs, batch, batch_idx):\n"
            "        return None if outputs else 0\n"
            "flags = {**flags, 'callbacks': [Stop()]}\n"
        ),
    },
    5: {
        "all that it holds": (
            "class Mended(Average):\n"
            "    def on_fit_start(self, trainer, pl_module):\n"
            "        super().on_train_start(trainer, pl_module)\n"
            "        vars(self).update(vars(self).pop('saved', {}))\n"
            "    def on_train_start(self, trainer, pl_module):\n"
            "        self.saved = {}\n"
            "    def state_dict(self):\n"
            "        return dict(count=self.count, mean=self.mean)\n"
            "    def load_state_dict(self, state_dict):\n"
            "        self.saved = state_dict\n"
        ),
    },
}
