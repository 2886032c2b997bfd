"""What learners answer wrongly in lesson 6, and what of the explanation they must read.

An edit is what is exchanged in the worked answer (a pair, or several), or a cell's code.
"""

WITHOUT_A_WORD = (
    "def worker(rank, workers, model, batches):\n"
    "    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
    "    for x, y in batches:\n"
    "        optimizer.zero_grad()\n"
    "        F.cross_entropy(model(x[rank::workers]), y[rank::workers]).backward()\n"
    "        optimizer.step()\n"
)
OWN_SHUFFLE = ("generator=torch.Generator().manual_seed(epoch)", "generator=None")

WRONG = {
    1: {
        "not filled up": (("[3, 7, 1]", "[3, 7]"), "begins anew with the first samples"),
        "sample 0 once more": (("[3, 7, 1]", "[3, 7, 0]"), "fills up the third worker"),
        "a block": (("[3, 7, 1]", "[7, 8, 9]"), "as cards are"),
        "ranks from 1": (("[3, 7, 1]", "[2, 6, 0]"), "ranks begin at 0"),
        "something else": (("[3, 7, 1]", "[1, 2]"), "4 to the first again"),
        "one worker's steps": (("118", "938"), "eight take 512 at a step"),
        "the last batch forgotten": (("118", "117"), "makes a batch too"),
        "a part of a step": (("118", "60_000 / 8 / 64"), "it counts whole"),
        "all workers' steps": (("118", "944"), "it counts once"),
        "some steps": (("118", "120"), "How many samples has each worker"),
        "no talk": (("24 / (24 / 4 + 2)", "4"), "Without any talking"),
        "the talk shared": (("24 / (24 / 4 + 2)", "4.8"), "The talk is not shared"),
        "the limit": (("24 / (24 / 4 + 2)", "12"), "any number of workers"),
        "the time": (("24 / (24 / 4 + 2)", "24 / 4 + 2"), "That is the time of a step"),
        "talking alone": (("24 / (24 / 4 + 2)", "26 / 8"), "nobody to talk to"),
    },
    2: {
        "the mean of the share": (
            (
                (', reduction="sum"', ""),
                ("(total * workers / len(y))", "total"),
            ),
            "a digit of a small share weighs more",
        ),
        "divided once more": ((" * workers / len(y)", " / len(y)"), "multiply by `workers`"),
        "sums": (("(total * workers / len(y))", "total"), "of sums: divide by the size"),
        "the same share for all": (("slice(rank,", "slice(0,"), "weigh as its size"),
        "the first share, by its mean": (
            (
                ("slice(rank,", "slice(0,"),
                (', reduction="sum"', ""),
                ("(total * workers / len(y))", "total"),
            ),
            "of the first share alone",
        ),
        "nobody talks": (WITHOUT_A_WORD, "there is no `yield` in it"),
        "nobody listens": (("weight.grad = yield", "yield"), "each goes its own way"),
        "the mean of one layer": (
            ("in model.parameters():", "in list(model.parameters())[:1]:"),
            "each goes its own way",
        ),
        "only the first talks": (
            ("        for weight in", "        for weight in [] if rank else"),
            "workers [1, 2] have ended; the others wait for ever",
        ),
        "gradients add up": (("optimizer.zero_grad()", "pass"), "no usual mistake"),
    },
    3: {
        "saved by all": (
            (('"e"', '""'), (': "c"', ': "ec"')),
            "is not for `end`: all have the same weights",
        ),
        "left by the first only": (
            (('"e"', '"ec"'), (': "c"', ': ""')),
            "is not for `first_worker`: all workers leave",
        ),
        "set_epoch at the start": ((("fikd", "fikdb"), (': "b"', ': ""')), "is not for `start`"),
        "set_epoch in the batch": (((': "b"', ': ""'), ("gjah", "bgjah")), "for `each_batch`"),
        "left in the loop": (
            (("gjah", "gjahc"), (': "c"', ': ""')),
            "is not for `each_batch`: all workers leave",
        ),
        "the rank before the group": (("fikd", "ifkd"), "`dist.get_rank()` comes to run"),
        "wrapped before the group": (("fikd", "dfik"), "before `f` nobody has met"),
        "no clearing between": (
            ("gjah", "gajh"),
            "clears the gradients that `a` has just computed",
        ),
        "clearing at the end of an epoch": (
            (("gjah", "gah"), (': "b"', ': "bj"')),
            "gradients would add up",
        ),
        "the step by the first": ((("gjah", "gja"), ('"e"', '"he"')), "their weights part"),
        "a line left out": (("gjah", "gja"), "1 line has no place yet: `h`"),
    },
    4: {
        "no accumulation": ((', "accumulate_grad_batches": 4', ""), "accumulation in one"),
        "divided twice": (
            ("self.model(x), y)", "self.model(x), y) / 4"),
            "gradients a constant factor apart",
        ),
        "two shares a step": (('batches": 4', 'batches": 2'), "accumulat"),
        "warmed up by the epoch": (
            ('[optimizer], [{"scheduler": warm_up, "interval": "step"}]', "[optimizer], [warm_up]"),
            "scheduler",
        ),
        "no warm-up": (
            ('[optimizer], [{"scheduler": warm_up, "interval": "step"}]', "optimizer"),
            "learning rate",
        ),
        "the old rate": (("4 * 0.05", "0.05"), "learning rate"),
        "one epoch": (('"max_epochs": 2', '"max_epochs": 1'), "one run is shorter"),
        "Adam": (("SGD(self.parameters(), lr=4 * 0.05)", "Adam(self.parameters())"), "learning"),
        "no epochs": (('"max_epochs": 2, ', ""), "the loop makes 2 epochs"),
        "flags as a text": ('flags = "max_epochs=2"', "should be a dictionary"),
    },
    5: {
        "as it was": ("share = share_in_blocks", "waits for ever"),
        "dealt, not filled up": (("[:length]", "[:number]"), "get 65, 65, 64"),
        "cut off": (
            ("-(-number // workers)", "(number // workers)"),
            "fill up rather than cut off",
        ),
        "each shuffles for itself": (OWN_SHUFFLE, "Does each worker shuffle for itself?"),
        "by the rank": (
            ("manual_seed(epoch)", "manual_seed(epoch + rank)"),
            "Does each worker shuffle for itself?",
        ),
        "one order for ever": (
            ("manual_seed(epoch)", "manual_seed(0)"),
            "has the order of epoch 0",
        ),
        "all for everybody": (("[rank::workers]", ""), "more than comes out even"),
        "numbers from 1": (
            (
                ("[rank::workers]", "[rank::workers]\n"),
                ("order * workers", "[n + 1 for n in order]"),
            ),
            "There is no digit 194",
        ),
        "nothing returned": (("return (order", "(order"), "a list of whole numbers"),
    },
}

ALSO_RIGHT = {
    1: {"a tensor": "last = list(torch.tensor([3, 7, 1]))\nsteps = 118.0\ngain = 3"},
    2: {
        "by means, weighed": (
            (', reduction="sum"', ""),
            ("total * workers / len(y)", "total * workers * len(y[mine]) / len(y)"),
        ),
        "in blocks": (
            "def worker(rank, workers, model, batches):\n"
            "    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
            "    for x, y in batches:\n"
            "        optimizer.zero_grad()\n"
            "        part = model(x.tensor_split(workers)[rank])\n"
            "        losses = F.cross_entropy(part, y.tensor_split(workers)[rank]) * len(part)\n"
            "        count = yield torch.tensor(len(part) * 1.0)\n"
            "        (losses / count).backward()\n"
            "        flat = torch.cat([p.grad.flatten() for p in model.parameters()])\n"
            "        flat = yield flat\n"
            "        for p in model.parameters():\n"
            "            p.grad.copy_(flat[: p.numel()].view_as(p))\n"
            "            flat = flat[p.numel() :]\n"
            "        optimizer.step()\n"
        ),
    },
    3: {
        "the gradients cleared last": ("gjah", "gahj"),
        "the sampler last": ("fikd", "fdik"),
        "a dictionary of lists": ('"gjah"', '["g", "j", "a", "h"]'),
    },
    4: {
        "a dictionary, not lists": (
            "return [optimizer], [{",
            'return {"optimizer": optimizer, "lr_scheduler": {"scheduler": warm_up, "interval": '
            '"step"}}\n        return [optimizer], [{',
        ),
        "by steps": ('"max_epochs": 2', '"max_steps": 6'),
    },
    5: {
        "torch's own": (
            "from torch.utils.data import DistributedSampler\n"
            "def share(number, rank, workers, epoch):\n"
            "    sampler = DistributedSampler(range(number), workers, rank, seed=3)\n"
            "    sampler.set_epoch(epoch)\n"
            "    return list(sampler)\n"
        ),
        "numbers in a tensor": (
            ("return (order", "return torch.tensor((order"),
            ("[rank::workers]", "[rank::workers])"),
        ),
    },
}
