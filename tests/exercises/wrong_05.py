"""What learners answer wrongly in lesson 5, and what of the explanation they must read.

An edit is what is exchanged in the worked answer (a pair, or several), or a cell's code.
"""

TAKEN = "self.network = network.eval().requires_grad_(False)"
BY_NAME = '[self.get_buffer(f"gram_{i}") for i in range(len(found))]'

WRONG = {
    1: {
        "sum for mean": ("together = 1", "the mean over all four places"),
        "one map alone": ("together = 0.5", "how strong each map is by itself"),
        "either for both": ("together = 0.75", "the product asks for both"),
        "only one doubled": ("doubled = 2", "both are doubled"),
        "strength divided away": ("doubled = 1", "not by the strength"),
        "more products": ("larger = 4", "mean is over four times as many places"),
        "more places": ("larger = 0.25", "the sum has as many more products"),
        "some number": ("larger = 3", "multiply place by place"),
    },
    2: {
        "exchanged": (
            (
                "share * gram(maps) + (1 - share) * gram(others)",
                "(1 - share) * gram(maps) + share * gram(others)",
            ),
            "the shares are exchanged",
        ),
        "half and half": (
            ("share * gram(maps) + (1 - share) * gram(others)", "(gram(maps) + gram(others)) / 2"),
            "both have the same share",
        ),
        "the sum": (
            (("share * gram(maps)", "gram(maps)"), ("(1 - share) * ", "")),
            "the sum of both",
        ),
        "the first alone": ((" + (1 - share) * gram(others)", " / share"), "first style alone"),
        "the second alone": (
            ("share * gram(maps) + (1 - share) * gram(others)", "gram(others)"),
            "second style alone",
        ),
        "maps mixed": (
            (
                "share * gram(maps) + (1 - share) * gram(others)",
                "gram(share * maps + (1 - share) * others)",
            ),
            "mix the Gram matrices",
        ),
        "a part missing": ((" + (1 - share) * gram(others)", ""), "the two styles have"),
        "one target": (("return targets", "return targets[:1]"), "list of 4 targets, and gives 1"),
        "nothing returned": (("return targets", "print(targets)"), "and gives NoneType"),
    },
    3: {
        "backward in the step": ((("gaje", "gajde"), ("kldi", "kli")), "calls `backward`"),
        "the loop in the step": ((("gaje", "kgajeldi"), ('"kldi"', '""')), "(4 lines are not"),
        "the network in the step": ((("hcf", "hf"), ("gaje", "cgaje")), "is fixed once"),
        "the model in the step": ((("hcf", "hc"), ("gaje", "fgaje")), "the model is built once"),
        "no loss returned": ((("gaje", "gaj"), ("kldi", "kldie")), "has to return the loss"),
        "looked at too early": (("gaje", "agje"), "it needs what that line makes"),
        "returned too early": (("gaje", "gaej"), "it needs what that line makes"),
        "super last": (("hcf", "cfh"), "a module can hold nothing before"),
        "a line left out": (("kldi", "kld"), "1 line has no place yet: `i`"),
    },
    4: {
        "scheduler by epoch": ((', "interval": "step"', ""), "per epoch in the other"),
        "no scheduler": ((', "lr_scheduler": scheduling', ""), "lesson 4 on schedulers"),
        "no clamp": (("clamp_(0, 1)", "clamp(0, 1)"), "to the pixels after each step?"),
        "clamped in the step": (
            (
                (
                    "    def on_train_batch_end(self, outputs, batch, batch_idx):\n"
                    "        with torch.no_grad():\n"
                    "            self.canvas.picture.clamp_(0, 1)\n\n",
                    "",
                ),
                ("(self.canvas())", "(self.canvas().clamp(0, 1))"),
            ),
            "different",
        ),
        "another weight": (("0.3 * content", "content"), "section 2, three losses"),
        "training mode": (("looker.eval()", "looker.train()"), "another network in training mode"),
        "from noise": (
            ("Canvas(picture)", "Canvas(torch.rand_like(picture))"),
            "from which pixels does the loop start?",
        ),
        "no canvas": (
            (
                ("self.canvas = Canvas(picture)", "self.canvas = nn.ParameterList([picture])"),
                ("self.canvas()", "self.canvas[0]"),
                ("self.canvas.picture", "self.canvas[0]"),
            ),
            "builds no `Canvas`",
        ),
        "no loss returned": (("return style +", "style +"), "no optimizer takes a step"),
    },
    5: {
        "detached": (("features(drawn)", "features(drawn.detach())"), "has no gradient"),
        "training mode": ((TAKEN, "self.network = network.requires_grad_(False)"), "in which mode"),
        "eval too late": (
            (
                (TAKEN, "self.network = network.requires_grad_(False)"),
                ("gram(maps))", "gram(maps))\n        self.network.eval()"),
            ),
            "when its Gram matrices were taken",
        ),
        "not frozen": (
            (TAKEN, "self.network = network.eval()"),
            "wait to be trained",
        ),
        "targets trained": (
            (
                ('self.register_buffer(f"gram_{i}", ', 'setattr(self, f"gram_{i}", nn.Parameter('),
                ("gram(maps))", "gram(maps)))"),
                ("self.get_buffer(f", "getattr(self, f"),
            ),
            "4 tensors of it wait",
        ),
        "a list": (
            (
                (
                    'self.register_buffer(f"gram_{i}", gram(maps))',
                    "self.__dict__.setdefault('grams', []).append(gram(maps))",
                ),
                (BY_NAME, "self.grams"),
            ),
            "something stayed behind",
        ),
        "not saved": (("gram(maps))", "gram(maps), persistent=False)"), "still has its old"),
        "half of it": (("in range(len(found))])", "in range(len(found))]) / 2"), "all four stages"),
    },
}

ALSO_RIGHT = {
    1: {"tensors": "together, doubled, larger = torch.tensor([0.25, 4, 1])"},
    2: {
        "a tuple, by lerp": (
            "def mixed(first, second, share):\n"
            "    pairs = zip(first, second)\n"
            "    return tuple(torch.lerp(gram(b), gram(a), share) for a, b in pairs)\n"
        ),
    },
    3: {
        "looked at before drawing": ("gaje", "jgae"),
        "the model first": ("hcf", "hfc"),
        "lists": ('"gaje"', '["g", "a", "j", "e"]'),
    },
    4: {
        "targets in lists": (
            (
                (
                    "        self.canvas = C",
                    "        self.grams = [gram(m) for m in looker.features(style)]\n"
                    "        self.canvas = C",
                ),
                ('self.kept("gram")', "self.grams"),
            )
        ),
    },
    5: {
        "one list of names": (
            "class WholeModule(nn.Module):\n"
            "    def __init__(self, network, style):\n"
            "        super().__init__()\n"
            "        self.network = network.eval()\n"
            "        for weight in network.parameters():\n"
            "            weight.requires_grad = False\n"
            "        grams = {f'g{i}': gram(m) for i, m in enumerate(network.features(style))}\n"
            "        self.names = list(grams)\n"
            "        for name, found in grams.items():\n"
            "            self.register_buffer(name, found)\n"
            "    def forward(self, drawn):\n"
            "        grams = [getattr(self, name) for name in self.names]\n"
            "        return style_loss(self.network.features(drawn), grams)\n"
        ),
    },
}
