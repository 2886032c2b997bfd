"""What learners answer wrongly in lesson 2, and what of the explanation they must read.

An edit is what is exchanged in the worked answer (a pair, or several), or a cell's code.
"""

GRADIENTS = "gradients = [weight.grad.flatten() for weight in self.parameters()]"
NORM = "torch.cat(gradients).norm()"
EACH = "torch.stack([weight.grad.norm() for weight in self.parameters()])"
RATE = """
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.rate)
"""
RENEWED = """
    def on_load_checkpoint(self, checkpoint):
        state = Autoencoder(self.hparams.code_size).state_dict()
        checkpoint["state_dict"] = state
"""

WRONG = {
    1: {
        "steps from 1": (("[3, 7]", "[4, 8]"), "counts steps from 0"),
        "the first step too": (("[3, 7]", "[0, 4, 8]"), "not logged at once"),
        "each epoch anew": (("[3, 7]", "[3, 3]"), "goes on through both epochs"),
        "the wait begins anew": (("[3, 7]", "[3, 8]"), "does not begin anew"),
        "where the means stand": (("[3, 7]", "[4, 9]"), "where the means stand"),
        "every step": (("[3, 7]", "range(10)"), "logger is asked at every fourth"),
        "some step": (("[3, 7]", "[5]"), "Steps 5: there are ten steps"),
        "words": (("[3, 7]", '"every fourth"'), "list of numbers"),
        "batches alike": ("steps, mean = [3, 7], (1 + 1 + 2) / 3", "as much as a full one"),
        "the last batch": ("steps, mean = [3, 7], 2", "loss of the last batch"),
        "the sum": ("steps, mean = [3, 7], 4", "it is a sum"),
        "some mean": ("steps, mean = [3, 7], 1.3", "weighed by its size"),
    },
    2: {
        "sum of norms": ((NORM, f"{EACH}.sum()"), "sum of the norms"),
        "mean of norms": ((NORM, f"{EACH}.mean()"), "mean of the norms"),
        "largest norm": ((NORM, f"{EACH}.max()"), "gradient is largest"),
        "square": ((NORM, f"{NORM} ** 2"), "the square of the norm"),
        "largest number": ((NORM, "torch.cat(gradients).abs().max()"), "largest single number"),
        "weights": (("weight.grad.fl", "weight.fl"), "norm of the weights"),
        "one after the other": (
            "class LitWatched(LitAutoEncoder):\n"
            "    def on_before_optimizer_step(self, optimizer):\n"
            "        for weight in self.parameters():\n"
            "            self.log('grad_norm', weight.grad.norm())\n",
            "log once, after the loop",
        ),
        "means of numbers": ((NORM, "torch.cat(gradients).abs().mean()"), "root of the sum"),
        "by epoch": (
            (f"{NORM})", f"{NORM}, on_step=False, on_epoch=True)"),
            "your log has 2 values",
        ),
        "another name": (
            ('"grad_norm"', '"norm"'),
            "It has `norm`, `train_loss`: log the norm, by that name",
        ),
        "not logged": (
            (f'self.log("grad_norm", {NORM})', "pass"),
            "no `grad_norm`. It has `train_loss`",
        ),
        "it also cuts": (
            (NORM, "torch.nn.utils.clip_grad_norm_(self.parameters(), 0.1)"),
            "clipping in one",
        ),
        "it scales as well": (
            (f"{NORM})", f"{NORM})\n        for w in self.parameters():\n            w.grad /= 2"),
            "gradients a constant factor apart",
        ),
    },
    3: {
        "the loss at the users' door": (
            (('"bi"', '"big"'), ('"cg"', '"c"')),
            "`g`, `return F.mse_loss(self.model(x), x)`, is not for `forward`",
        ),
        "grey levels in training": (
            (('"bi"', '""'), ('"cg"', '"cbig"')),
            "come out of the users' door",
        ),
        "a picture each step": ((('"d"', '""'), ('"cg"', '"cdg"')), "after each epoch"),
        "a picture before": ((('"fjh"', '"fjhd"'), ('"d"', '""')), "after each epoch"),
        "an empty list each time": ((('"fjh"', '"fj"'), ('"d"', '"hd"')), "forgets what it has"),
        "backward in the step": ((('"cg"', '"ckg"'), ('"ek"', '"e"')), "calls `backward`"),
        "the optimizer in __init__": ((('"fjh"', '"fjha"'), ('"a"', '""')), "has to return"),
        "a line left out": (('"ek"', '"e"'), "1 line has no place yet: `k`"),
        "a line placed twice": (('"ek"', '"ekc"'), "placed more than once: `c`"),
    },
    4: {
        "each epoch validated": ((', "check_val_every_n_epoch": 2', ""), "random numbers"),
        "clean input": (
            ("self.model(with_noise(x)), x)\n\n    def val", "self.model(x), x)\n\n    def val"),
            "batch",
        ),
        "noise in the target": (
            (
                "x, _ = batch\n        return F.mse_loss(self.model(with_noise(x)), x)",
                "x = with_noise(batch[0])\n        return F.mse_loss(self.model(x), x)",
            ),
            "other loss or gradient",
        ),
        "noise drawn twice": (
            (
                "return F.mse_loss(self.model(with_noise(x)), x)",
                "return F.mse_loss(self.model(with_noise(x)), with_noise(x))",
            ),
            "gradient",
        ),
        "validation on clean digits": (
            (
                'self.log("val_loss", F.mse_loss(self.model(with_noise(x)), x))',
                'self.log("val_loss", F.mse_loss(self.model(x), x))',
            ),
            "random",
        ),
        "the lesson's rate": (("lr=2e-3", "lr=1e-3"), "other learning rate"),
        "the lesson's code": (("code_size=8", "code_size=3"), "different"),
        "two epochs": (('"max_epochs": 4', '"max_epochs": 2'), "one run is shorter"),
        "no epochs": (('"max_epochs": 4, ', ""), "goes on for 1,000 epochs"),
        "no loss returned": (("return F.mse_loss", "F.mse_loss"), "no optimizer takes a step"),
        "flags as a text": ('flags = "max_epochs=2"', "should be a dictionary that says how long"),
    },
    5: {
        "nothing saved": (
            ("self.save_hyperparameters()", "self.hparams.lr = lr"),
            "that was not saved",
        ),
        "only the rate": (
            ("self.save_hyperparameters()", 'self.save_hyperparameters("lr")'),
            "The hyperparameters in the file: `lr`",
        ),
        "networks saved as well": (
            ("whole.decoder\n", "whole.decoder\n        self.hparams.encoder = whole.encoder\n"),
            "hold more than numbers, namely `encoder`",
        ),
        "a fixed code": (("Autoencoder(code_size)", "Autoencoder(3)"), "codes of 3 numbers, not 5"),
        "a default in place of what was given": (
            (
                ("code_size, lr):", "code_size=3, lr=1e-3):"),
                ("self.save_hyperparameters()", 'self.save_hyperparameters("lr")'),
            ),
            "another code size than it was saved with",
        ),
        "the rate is a default": (
            (
                ("code_size, lr):", "code_size, lr=1e-3):"),
                (
                    "self.save_hyperparameters()",
                    'self.save_hyperparameters("code_size")\n        self.rate = lr',
                ),
                ("whole.decoder\n", "whole.decoder\n" + RATE),
            ),
            "comes back with the learning rate 0.001",
        ),
        "weights of its own at each start": (
            ("whole.decoder\n", "whole.decoder\n" + RENEWED),
            "comes back with other weights",
        ),
        "no networks": (("self.encoder, self.decoder =", "encoder, decoder ="), "has no `encoder`"),
    },
    6: {
        "the encoder's own": (
            "def complete(model, covered):\n    return model.encoder(covered)\n",
            "and yours are those, unmoved",
        ),
        "the optimizer holds nothing of them": (
            ("[codes]", "[codes.clone().detach().requires_grad_()]"),
            "does the optimizer hold the codes",
        ),
        "all of the picture": (
            (("drawn[:, :, :14]", "drawn"), ("covered[:, :, :14]", "covered")),
            "black where it is covered",
        ),
        "one code for all": (
            "def complete(model, covered):\n    return torch.zeros(len(covered), 3)\n",
            "each digit has its own",
        ),
        "random codes": (
            "def complete(model, covered):\n    return 3 * torch.randn(len(covered), 3)\n",
            "Search longer",
        ),
        "pictures": (
            ("return codes", "return model.decoder(codes)"),
            "yours has shape [100, 1, 28, 28]",
        ),
        "the weights move": (
            ("return codes", "model.decoder[0].weight.data.add_(0.1)\n    return codes"),
            "weights have changed",
        ),
        "steps too large": (("return codes", "return codes / 0 * 0"), "no finite numbers"),
        "nothing returned": (("return codes", "pass"), "end in `return`"),
    },
}

ALSO_RIGHT = {
    1: {"a tensor": "steps = torch.tensor([3, 7])\nmean = torch.tensor(1.2)"},
    2: {
        "by torch's own function": (
            (GRADIENTS, ""),
            (NORM, "torch.nn.utils.clip_grad_norm_(self.parameters(), 1e9)"),
        ),
        "right after backward, also by epoch": (
            ("on_before_optimizer_step(self, optimizer)", "on_after_backward(self)"),
            (f"{NORM})", f"{NORM}, on_step=True, on_epoch=True)"),
        ),
    },
    3: {
        "lists": ('"bi"', '["b", "i"]'),
        "another order in __init__": ('"fjh"', '"fhj"'),
    },
    4: {
        "no noise while it is tried, nothing logged": (
            (
                "validation_step(self, batch, batch_idx):\n",
                "validation_step(self, batch, batch_idx):\n"
                "        if self.trainer.sanity_checking:\n            return\n",
            ),
            ('self.log("val_loss", ', "print("),
        ),
        "a class of the lesson's": (
            "class LitDenoiser(LitAutoEncoder):\n"
            "    def __init__(self):\n"
            "        super().__init__(code_size=8, lr=2e-3)\n"
            "    def _loss(self, batch):\n"
            "        return F.mse_loss(self.model(with_noise(batch[0])), batch[0])\n"
        ),
    },
    5: {
        "named one by one, and networks of other layers": (
            "class LitSized(Drawing):\n"
            "    def __init__(self, code_size, lr):\n"
            "        super().__init__()\n"
            "        self.save_hyperparameters('code_size', 'lr')\n"
            "        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, code_size))\n"
            "        self.decoder = Autoencoder(code_size).decoder\n"
        ),
    },
    6: {
        "thousands of random codes": (
            "def complete(model, covered):\n"
            "    codes = model.encoder(covered)\n"
            "    many = codes.mean(0) + 2 * codes.std(0) * torch.randn(10_000, 3)\n"
            "    drawn = model.decoder(many)[:, :, :14].flatten(1)\n"
            "    return many[torch.cdist(covered[:, :, :14].flatten(1), drawn).argmin(1)]\n"
        ),
        "from nothing, without a name for the loss": (
            "def complete(model, covered):\n"
            "    codes = torch.zeros(len(covered), 3, requires_grad=True)\n"
            "    optimizer = torch.optim.Adam([codes], lr=0.3)\n"
            "    for _ in range(200):\n"
            "        optimizer.zero_grad()\n"
            "        (model.decoder(codes) - covered)[:, :, :14].square().mean().backward()\n"
            "        optimizer.step()\n"
            "    return codes\n"
        ),
    },
}
