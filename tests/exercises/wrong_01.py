"""What learners answer wrongly in lesson 1, and what of the explanation they must read.

An edit is what is exchanged in the worked answer (a pair, or several), or a cell's code.
"""

WRONG = {
    1: {
        "no biases": ("parameters = 50_816\nsteps = 80", "50,816 parameters are too few"),
        "no output layer": ("parameters = 784 * 64 + 64", "ten logits counts too"),
        "last biases forgotten": ("parameters = 50_880", "ten biases as well"),
        "28 inputs": ("parameters = 2506", "784 inputs, not 28"),
        "the lesson's network": ("parameters = 235_146", "that is the lesson's network"),
        "some number": ("parameters = 51_000", "too many: the first layer alone"),
        "last batch forgotten": ("steps = 75", "the last batch of an epoch is smaller"),
        "one epoch": ("steps = 16", "that is one epoch"),
        "epochs joined": ("steps = 79", "the epochs are not joined"),
        "digits for batches": ("steps = 5000", "for each batch, not for each digit"),
        "some steps": ("steps = 81", "81 steps are too many"),
    },
    2: {
        "training mode": (("model.eval()", "pass"), "in training mode in 3 of 3 calls"),
        "of all digits": (("correct / seen", "correct / seen.sum()"), "among all digits"),
        "how often it is said": (("bincount(y, min", "bincount(guesses, min"), "model says"),
        "errors": (("correct / seen", "1 - correct / seen"), "shares that are wrong"),
        "counts": (("correct / seen", "correct"), "they are counts"),
        "wrong dimension": (
            ("model(x).argmax(1)", "model(x).argmax(0).repeat(len(y))[: len(y)]"),
            "`argmax(1)`",
        ),
        "one number": (("correct / seen", "correct.sum() / seen.sum()"), "yours has shape []"),
        "nothing returned": (("return correct / seen", "correct / seen"), "end in `return`"),
        "the last batch": (
            (("seen +=", "seen ="), ("correct +=", "correct =")),
            "those of the last batch alone",
        ),
        "mean of batches": (
            "def accuracy_by_digit(model, loader):\n"
            "    model.eval()\n"
            "    shares = []\n"
            "    for x, y in loader:\n"
            "        hits = y[model(x).argmax(1) == y]\n"
            "        counts = torch.bincount(hits, minlength=10)\n"
            "        shares.append(counts / torch.bincount(y, minlength=10))\n"
            "    return torch.stack(shares).mean(0)\n",
            "means over the batches",
        ),
        "the model is not asked": (("model(x).argmax(1)", "y"), "never called"),
    },
    3: {
        "backward in the step": ((("che", "chae"), ("jfai", "jfi")), "calls `backward`"),
        "all of the loop in the step": ((("che", "chfaie"), ("jfai", "j")), "is not for"),
        "no loss returned": ((("che", "ch"), ("jfai", "jfaie")), "has to return the loss"),
        "optimizer in __init__": ((("gd", "gdb"), (': "b"', ': ""')), "configure_optimizers` has"),
        "the model in the step": ((("gd", "g"), ("che", "dche")), "built once"),
        "a line left out": (("jfai", "jfa"), "1 line has no place yet: `i`"),
        "a line placed twice": (("jfai", "jfaic"), "placed more than once: `c`"),
    },
    4: {
        "Adam stays": (
            ("SGD(self.parameters(), lr=0.1, momentum=0.9)", "Adam(self.parameters())"),
            "the loop: 0.1; your port: 0.001",
        ),
        "no momentum": ((", momentum=0.9", ""), "momentum"),
        "another rate": (("lr=0.1", "lr=0.01"), "other learning rate"),
        "labels as they are": ((", label_smoothing=0.1", ""), "gradient"),
        "softmax before the loss": (("self.model(x)", "self.model(x).softmax(1)"), "gradient"),
        "no limit": ((', "gradient_clip_val": 1.0', ""), "clipping in one"),
        "one epoch": (('"max_epochs": 3', '"max_epochs": 1'), "one run is shorter"),
        "another width": (
            "class LitSmooth(LitSmooth):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.model = MLP(hidden=(64,))\n",
            "builds: build just one",
        ),
        "no model": (
            "class LitSmooth(LitSmooth):\n"
            "    def __init__(self):\n"
            "        L.LightningModule.__init__(self)\n"
            "        self.model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n",
            "builds no `MLP`",
        ),
        "no loss": (("return F.cross", "F.cross"), "no optimizer takes a step"),
        "the loop in a hook": (
            "class LitSmooth(L.LightningModule):\n"
            "    def configure_optimizers(self):\n"
            "        train_smoothly(FewDigits(1789))\n"
            "    def training_step(self, batch, batch_idx):\n"
            "        return None if batch_idx >= 0 else 0\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.layer = nn.Linear(1, 1)\n",
            "outside the Trainer's own steps",
        ),
        "no epochs": (('"max_epochs": 3, ', ""), "goes on for 1,000 epochs"),
        "flags as a text": ('flags = "max_epochs=3"', "should be a dictionary"),
    },
    5: {
        "as it was": ("make_loaders = broken_loaders", "validation in one loop only"),
        "one generator for both": (
            (
                ("    sampler =", "    both = seeded(42)\n    sampler ="),
                ("train, seeded(42)", "train, both"),
                ("generator=seeded(42)", "generator=both"),
            ),
            "different",
        ),
        "no shuffling": (("sampler=sampler, ", ""), "same order in each epoch"),
        "shuffle=True": (("sampler=sampler", "shuffle=True"), "full last batch"),
        "validation digits in training": (
            "def make_loaders(train, val):\n"
            "    both = train + val\n"
            "    return DataLoader(both, 64, shuffle=True), DataLoader(val, 64)\n",
            "your training loader gives 300",
        ),
        "one loader": (
            "def make_loaders(train, val):\n    return DataLoader(train, 64, shuffle=True)\n",
            "two loaders, and returns DataLoader",
        ),
    },
}

ALSO_RIGHT = {
    1: {"a tensor": "parameters = torch.tensor(50_890)\nsteps = 80.0"},
    2: {
        "a list, by a loop": (
            "def accuracy_by_digit(model, loader):\n"
            "    model.eval()\n"
            "    x, y = (torch.cat(parts) for parts in zip(*loader))\n"
            "    hit = (model(x).argmax(1) == y).float()\n"
            "    return [hit[y == digit].mean().item() for digit in range(10)]\n"
        ),
    },
    3: {
        "lists": ('"che"', '["c", "h", "e"]'),
        "another order of what the Trainer does": ("jfai", "aijf"),
        "the model built with the optimizer": (("gd", "g"), (': "b"', ': "db"')),
    },
    4: {
        "by way of log_softmax": (
            "class LitSmooth(LitSmooth):\n"
            "    def training_step(self, batch, batch_idx):\n"
            "        x, y = batch\n"
            "        return nn.CrossEntropyLoss(label_smoothing=0.1)(self.model(x), y)\n"
        ),
        "optimization by hand": (
            "class LitSmooth(LitSmooth):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.automatic_optimization = False\n"
            "    def training_step(self, batch, batch_idx):\n"
            "        loss, optimizer = super().training_step(batch, batch_idx), self.optimizers()\n"
            "        optimizer.zero_grad()\n"
            "        self.manual_backward(loss)\n"
            "        self.clip_gradients(optimizer, 1.0, 'norm')\n"
            "        optimizer.step()\n"
            "flags = {'max_epochs': 3}\n"
        ),
    },
    5: {
        "a generator for the sampler only": (
            "def make_loaders(train, val):\n"
            "    sampler = ShuffleSampler(train, seeded(7))\n"
            "    first = DataLoader(train, 64, sampler=sampler, generator=seeded(8))\n"
            "    return first, DataLoader(val, 64, generator=seeded(9))\n"
        ),
    },
}
