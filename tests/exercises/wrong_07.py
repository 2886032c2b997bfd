"""What learners answer wrongly in lesson 7, and what of the explanation they must read.

An edit is what is exchanged in the worked answer (a pair, or several), or a cell's code.
"""

FORWARD = "class Forgiving(Inverting):\n    def forward(self, pictures):\n"

WRONG = {
    1: {
        "numbers for bytes": ("plain = 79_510", "each takes 32 bits, 4 bytes"),
        "bits for bytes": ("plain = 32 * 79_510", "those are bits"),
        "no biases": ("plain = 4 * 79_400", "biases are floats of 4 bytes, too"),
        "some number": ("plain = 1", "1 is too small for `plain`: count the numbers"),
        "the weights alone": ("adam = plain", "those are the weights alone"),
        "one average": ("adam = 2 * plain", "two averages, of the gradient"),
        "gradients kept": ("adam = 4 * plain", "no checkpoint keeps them"),
        "all in 8 bits": ("eight_bits = 79_510", "the 110 biases keep their 4 bytes"),
        "eight bytes": ("eight_bits = 8 * 79_510", "8 bits are one byte"),
        "biases left out": ("eight_bits = 79_400", "biases are shipped as well"),
        "as before": ("eight_bits = plain", "that is what it was before"),
    },
    2: {
        "bias as it was": (
            (" - layer.weight.sum(1) * mean / std", ""),
            "still to be taken off, in the bias",
        ),
        "the wrong sign": (("layer.bias - ", "layer.bias + "), "the mean is added"),
        "times std": (
            (("weight / std", "weight * std"), ("mean / std", "mean * std")),
            "divided by `std`, not multiplied",
        ),
        "bias divided": (
            (
                "layer.bias - layer.weight.sum(1) * mean / std",
                "(layer.bias - layer.weight.sum(1) * mean) / std",
            ),
            "added after the normalisation",
        ),
        "the mean not divided": (("mean / std", "mean"), "the mean is divided by `std`, too"),
        "no weights in the bias": (("layer.weight.sum(1) * mean", "mean"), "the sum of its row"),
        "one sum of all": (("weight.sum(1)", "weight.sum()"), "each output has a row of its own"),
        "copied as it is": (
            ((" / std)", ")"), (" - layer.weight.sum(1) * mean", "")),
            "this is the layer as it was",
        ),
        "random": (("new.weight.copy_(layer.weight / std)", "pass"), "sort by what x is in"),
        "written into the old one": (
            "def folded(layer, mean, std):\n"
            "    with torch.no_grad():\n"
            "        layer.bias -= layer.weight.sum(1) * mean / std\n"
            "        layer.weight /= std\n"
            "    return layer\n",
            "changed the layer that it was given",
        ),
        "a function around it": (
            "def folded(layer, mean, std):\n    return lambda x: layer((x - mean) / std)\n",
            "should give a linear layer, and gives function",
        ),
    },
    3: {
        "the encoder in forward": (
            (('"ea"', '"iea"'), ('"id"', '"d"')),
            "codes come from the user now",
        ),
        "the loss in forward": ((('"ea"', '"eda"'), ('"id"', '"i"')), "needs no loss"),
        "weights loaded in __init__": (
            (('"ch"', '"chb"'), ("fkbjlg", "fkjlg")),
            "only `ship` has it",
        ),
        "normalisation with training": ((('"ea"', '"a"'), ('"id"', '"ide"')), "is undone for each"),
        "the rounding first": (('"ea"', '"ae"'), "needs what that line makes"),
        "loaded too late": (("fkbjlg", "fkjlgb"), "untrained weights"),
        "loaded too early": (("fkbjlg", "bfkjlg"), "needs what that line makes"),
        "painter before the decoder": (("fkbjlg", "fjkblg"), "needs what that line makes"),
        "super second": (('"ch"', '"hc"'), "before `super().__init__()`"),
        "a line left out": (("fkbjlg", "fkbjg"), "1 line has no place yet: `l`"),
    },
    4: {
        "nothing loaded": (
            ("        self.model.load_state_dict(weights)\n", ""),
            "its weights from the file, then",
        ),
        "the new layer first": (
            (
                ("        self.model.layers[5] = nn.Linear(32, 2)\n", ""),
                ("__init__()\n", "__init__()\n        last = nn.Linear(32, 2)\n"),
                (
                    "requires_grad_(False)\n",
                    "requires_grad_(False)\n        self.model.layers[5] = last\n",
                ),
            ),
            "then a new layer",
        ),
        "nothing frozen": (
            ("requires_grad_(False)", "requires_grad_(True)"),
            "the loop freezes one layer by",
        ),
        "one pace": (
            ('"lr": 1e-4', '"lr": 1e-3'),
            "the loop: 0.0001, 0.001; your port: 0.001, 0.001",
        ),
        "no accumulation": ((", accumulate_grad_batches=2", ""), "accumulation in one"),
        "divided twice": (("y % 2)", "y % 2) / 2"), "divides each loss by itself"),
        "one epoch": (("max_epochs=2", "max_epochs=1"), "one run is shorter"),
        "another optimizer": (
            ("torch.optim.Adam([", "torch.optim.AdamW(["),
            "other optimizer settings",
        ),
        "the old layer": (
            ("        self.model.layers[5] = nn.Linear(32, 2)\n", ""),
            "not the same model",
        ),
        "a loop of one's own": (
            "def port(weights, data):\n    go_on(weights, data)\n",
            "outside the Trainer's own steps",
        ),
        "nothing trained": (("    trainer.fit", "    # trainer.fit"), "no optimizer takes a step"),
    },
    5: {
        "as it was": (
            "class Forgiving(Inverting):\n"
            "    def forward(self, pictures):\n"
            "        return super().forward(pictures)\n",
            "3 of 11 answers are",
        ),
        "one mean for the batch": (("mean((1, 2), keepdim=True)", "mean()"), "whole batch decides"),
        "from 0 to 1": (("pixels.mean", "(pixels / 255).mean"), "pixels from 0 to 255?"),
        "the dark ones": (("> 127", "<= 127"), "The dark ones are inverted"),
        "each pixel": (("pixels.mean((1, 2), keepdim=True) > 127", "pixels > 127"), "Each pixel"),
        "rows": (("mean((1, 2), ", "mean(2, "), "a picture should have one"),
        "all": (
            ("pixels = torch.where(light, 255 - pixels, pixels)", "pixels = 255 - pixels"),
            "Every picture is inverted",
        ),  # fmt: skip
        "no softmax": ((".softmax(1)", ""), "at the end the `softmax`?"),
        "not normalised": (("(pixels / 255 - MEAN) / STD", "pixels / 255"), "MEAN off"),
        "a loop over the pictures": (
            FORWARD + "        one = [self.model((self.turned(p)[None] / 255 - MEAN) / STD)\n"
            "               for p in pictures.float()]\n"
            "        return torch.cat(one).softmax(1)\n"
            "    def turned(self, pixels):\n"
            "        return 255 - pixels if pixels.mean() > 127 else pixels\n",
            "torch.export cannot write it down",
        ),
        "nothing returned": (("return self.model", "self.model"), "end in `return`"),
    },
    6: {
        "as in the lesson": ("four_bits = one_scale", "has each row a scale"),
        "a scale for each row": (
            "def four_bits(weight):\n"
            "    scale = weight.abs().amax(1, keepdim=True) / 7\n"
            "    return (weight / scale).round() * scale\n",
            "need not be equally far apart",
        ),
        "a scale for each column": (
            "def four_bits(weight):\n"
            "    scale = weight.abs().amax(0).clamp(min=1e-9) / 7\n"
            "    return (weight / scale).round() * scale\n",
            "along the other dimension",
        ),
        "17 values": (
            "def four_bits(weight):\n"
            "    scale = weight.abs().amax(1, keepdim=True) / 8\n"
            "    return (weight / scale).round() * scale\n",
            "has 17 different values, as",
        ),
        "cut off": (
            "def four_bits(weight):\n"
            "    scale = weight.abs().amax(1, keepdim=True) / 7\n"
            "    return (weight / scale).trunc() * scale\n",
            "the next smaller one",
        ),
        "whole numbers": (
            "def four_bits(weight):\n"
            "    scale = weight.abs().amax(1, keepdim=True) / 7\n"
            "    return (weight / scale).round()\n",
            "in the units of the weights again",
        ),
        "nothing shortened": ("def four_bits(weight):\n    return 1 * weight\n", "tell 16 apart"),
        "divided by nothing": (
            "def four_bits(weight):\n    return weight * 0 / 0\n",
            "0 divided by 0",
        ),
        "another shape": ("def four_bits(weight):\n    return weight[0]\n", "yours has shape"),
    },
}

ALSO_RIGHT = {
    1: {"tensors": "plain, adam, eight_bits = torch.tensor([318_040, 954_120, 79_840])"},
    2: {
        "by asking the layer": (
            "def folded(layer, mean, std):\n"
            "    new = nn.Linear(layer.in_features, layer.out_features)\n"
            "    nothing = torch.full((1, layer.in_features), -mean / std)\n"
            "    new.weight.data = layer.weight.data / std\n"
            "    new.bias.data = layer(nothing)[0].detach()\n"
            "    return new\n"
        ),
    },
    3: {
        "sizes first": ("fkbjlg", "lfkbjg"),
        "the painter before the weights": ("fkbjlg", "kjfblg"),
        "lists": ('"fkbjlg"', '["f", "k", "b", "j", "l", "g"]'),
    },
    4: {
        "optimization by hand": (
            "class Own(LitOdd):\n"
            "    def __init__(self, weights):\n"
            "        super().__init__(weights)\n"
            "        self.automatic_optimization = False\n"
            "    def training_step(self, batch, batch_idx):\n"
            "        self.manual_backward(super().training_step(batch, batch_idx) / 2)\n"
            "        if batch_idx % 2:\n"
            "            self.optimizers().step()\n"
            "            self.optimizers().zero_grad()\n"
            "def port(weights, data):\n"
            "    L.Trainer(**QUIET, max_epochs=2).fit(Own(weights), data)\n"
        ),
    },
    5: {
        "by hand": (
            FORWARD + "        light = pictures.float().mean((1, 2), keepdim=True).gt(127)\n"
            "        pixels = (light * 255 - pictures.float()).abs()\n"
            "        return self.model((pixels / 255 - MEAN) / STD).softmax(1)\n"
        ),
        "in whole numbers": (
            FORWARD + "        means = pictures.float().mean(2).mean(1)[:, None, None]\n"
            "        pixels = torch.where(means > 127, 255 - pictures, pictures)\n"
            "        return self.model((pixels.float() / 255 - MEAN) / STD).softmax(1)\n"
        ),
    },
    6: {
        "row by row": (
            "def four_bits(weight):\n"
            "    short = torch.empty_like(weight)\n"
            "    for row, out in zip(weight, short):\n"
            "        table = torch.linspace(row.min(), row.max(), 16)\n"
            "        for _ in range(30):\n"
            "            nearest = torch.bucketize(row, (table[1:] + table[:-1]) / 2)\n"
            "            counts = torch.bincount(nearest, minlength=16)\n"
            "            sums = torch.bincount(nearest, row, minlength=16)\n"
            "            table = torch.where(counts > 0, sums / counts.clamp(min=1), table)\n"
            "        out.copy_(table[nearest])\n"
            "    return short\n"
        ),
    },
}
