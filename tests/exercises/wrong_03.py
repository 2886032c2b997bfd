"""What learners answer wrongly in lesson 3, and what of the explanation they must read.

An edit is what is exchanged in the worked answer (a pair, or several), or a cell's code.
"""

NETWORK = """\
def make_network():
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *({0},),
    )
"""

WRONG = {
    1: {
        "not rounded": (("side = 6 ", "side = 6.5"), "torch rounds down"),
        "rounded up": (("side = 6 ", "side = 7 "), "torch rounds down"),
        "no padding": (("side = 6 ", "side = 5 "), "has a padding of 2"),
        "no stride": (("side = 6 ", "side = 12 "), "has a stride of 2"),
        "some side": (("side = 6 ", "side = 8 "), "(W - F + 2P) / S + 1"),
        "strides forgotten": (("field = 14", "field = 10"), "2 pixels apart"),
        "pooling forgotten": (("field = 14", "field = 9"), "the pooling lies between"),
        "the pooling's own pixel": (("field = 14", "field = 13"), "adds a pixel too"),
        "its own stride": (("field = 14", "field = 22"), "a layer's own stride"),
        "some field": (("field = 14", "field = 17"), "times the strides before it"),
        "max pooling differs": (('"max": True', '"max": False'), "they are identical"),
        "averages are the same": (('"average": False', '"average": True'), "that of 0 and 3 is"),
        "a list": ("same = [True, False]", 'for "max" and for "average"'),
    },
    2: {
        "no copy": ((("cfga", "cfgb"), ('"b"', '"a"')), "that go on changing"),
        "the sanity check counts": ((("hicfga", "cfga"), ('"b"', '"bhi"')), "it is no epoch"),
        "put back each epoch": (
            (
                ('"on_train_epoch_start": ""', '"on_train_epoch_start": "d"'),
                ('"on_train_end": "d"', '"on_train_end": ""'),
            ),
            "put back once",
        ),
        "never put back": ((('"b"', '"bd"'), ('": "d"', '": ""')), "those of epoch 5"),
        "begun anew": (((': "e"', ': ""'), ("hicfga", "hiecfga")), "set once"),
        "a line left out": (("hicfga", "hicfa"), "no place yet: `g`"),
        "indented under nothing": (("hicfga", "ihcfga"), "no Python"),
        "the sanity check left out too late": (("hicfga", "cfgahi"), "look at their order"),
    },
    3: {
        "no min_delta": ((", min_delta=0.1", ""), "`patience` and `min_delta`"),
        "another patience": (("patience=3", "patience=4"), "one run is shorter"),
        "the last epoch kept": (
            ('ModelCheckpoint(monitor="val_loss")', "ModelCheckpoint()"),
            "holds the weights after epoch 9",
        ),
        "the highest loss kept": (('r="val_loss")', 'r="val_loss", mode="max")'), "the file holds"),
        "no file": (('        ModelCheckpoint(monitor="val_loss"),\n', ""), "Without one"),
        "no callbacks": ('flags = {"max_epochs": 12}', "one run is shorter"),
        "another rate": (("lr=8e-3", "lr=1e-3"), "the loop: 0.008; your port: 0.001"),
        "resized": (
            (
                "return F.cross_entropy(self.model(padded(x))",
                "return F.cross_entropy(self.model(F.interpolate(x, 32))",
            ),
            "other batches",
        ),
        "no epochs": (('"max_epochs": 12,', ""), "12 at most"),
        "no loss returned": (("return F.cross", "F.cross"), "no optimizer takes a step"),
    },
    4: {
        "direction not mended": ((', mode="max"', ""), "a larger value or a smaller"),
        "another patience": (("patience=2", "patience=4"), "How long is its patience"),
        "stopped by training digits": (("val_acc", "train_acc"), "on to epoch 20"),
        "logits of another digit": (
            ("accuracy(logits, y)", "accuracy(logits.flip(1), y)"),
            "does your metric hold",
        ),
        "nothing logged": (
            (
                'self.log(f"{stage}_acc", accuracy, on_step=False, on_epoch=True)',
                'self.log("val_acc", accuracy) if stage == "val" else None',
            ),
            "Nothing is logged as `train_acc`",
        ),
        "a list": (
            (('mode="max")', 'mode="max")]'), ("return Early", "return [Early")),
            "should return a callback; see list",
        ),
    },
    5: {
        "LeNet itself": ("def make_network():\n    return LeNet()\n", "64 x 64: it stops with"),
        "too large": (("40", "120"), "the most, 17,280, are in `6.weight`"),
        "two convolutions": (
            NETWORK.format("nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)"),
            "It has 2 convolutions",
        ),
        "maps for logits": (NETWORK.format("nn.ReLU()"), "two of them give [2, 16, 5, 5]"),
        "a class": ("def make_network():\n    return LeNet\n", "should return a network"),
        "no weights": (
            "def make_network():\n"
            "    return nn.Sequential(nn.AdaptiveAvgPool2d((1, 10)), nn.Flatten())\n",
            "nothing to train",
        ),
    },
}

ALSO_RIGHT = {
    1: {"tensors": "side = torch.tensor(6)\nfield = 14.0\nsame = {'max': 1, 'average': 0}"},
    2: {"lists, another order": ("hicfga", "chifag")},
    3: {
        "one class for all": (
            "class LitPatient(LitPatient):\n"
            "    def validation_step(self, batch, batch_idx):\n"
            "        loss = self.training_step(batch, batch_idx)\n"
            "        self.log('loss', loss, on_epoch=True)\n"
            "keep = ModelCheckpoint(monitor='loss', save_last=True)\n"
            "stop = EarlyStopping('loss', min_delta=0.1)\n"
            "flags = {'max_epochs': 12, 'callbacks': [keep, stop]}\n"
        ),
    },
    4: {
        "two attributes": (
            "class Mended(Broken):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.train_accuracy = MulticlassAccuracy(10, average='micro')\n"
            "    def step(self, batch, stage):\n"
            "        x, y = batch\n"
            "        logits = self.model(x)\n"
            "        metric = self.train_accuracy if stage == 'train' else self.accuracy\n"
            "        metric(logits, y)\n"
            "        self.log(f'{stage}_acc', metric, on_step=False, on_epoch=True)\n"
            "        return F.cross_entropy(logits, y)\n"
        ),
        "counted by self.log": (
            "class Mended(Broken):\n"
            "    def step(self, batch, stage):\n"
            "        logits = self.model(batch[0])\n"
            "        share = (logits.argmax(1) == batch[1]).float().mean()\n"
            "        self.log(f'{stage}_acc', share, on_step=False, on_epoch=True)\n"
            "        return F.cross_entropy(logits, batch[1])\n"
        ),
    },
    5: {
        "batch norm, fewer maps": (
            "def make_network():\n"
            "    class Means(nn.Module):\n"
            "        def forward(self, x):\n"
            "            return x.mean((2, 3))\n"
            "    layers = []\n"
            "    for before, after in ((1, 6), (6, 12), (12, 24)):\n"
            "        layers += [nn.Conv2d(before, after, 5, padding=2), nn.BatchNorm2d(after)]\n"
            "        layers += [nn.ReLU(), nn.MaxPool2d(2)] if after < 24 else [Means()]\n"
            "    return nn.Sequential(*layers, nn.Linear(24, 10))\n"
        ),
    },
}
