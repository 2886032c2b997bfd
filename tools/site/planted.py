"""One training program, and a fault planted in it for each diagnosis of the port doctor."""

from dataclasses import dataclass

PROGRAM = """\
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def train():
    torch.manual_seed(0)
    x, y = torch.randn(44, 6), torch.arange(44) % 3
    loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for epoch in range(2):
        net.train()
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
"""

Edits = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Planted:
    """A fault: what one notices of it, what both programs have, and what the broken one does.

    Each edit exchanges a text that the program has once for another one.
    """

    name: str  # the diagnosis
    symptom: str
    fault: Edits
    both: Edits = ()
    again: bool = False  # whether the second run is of the same program, which is not started anew
    traces: bool = False  # whether two traces are compared, and no run is made again

    @property
    def programs(self) -> tuple[str, str]:
        """The right program and the broken one; raises ValueError if an edit fits not once."""
        right = edited(PROGRAM, self.both)
        return right, edited(right, self.fault)


def edited(program: str, edits: Edits) -> str:
    """Return a program with texts exchanged; raises ValueError if one is not there just once."""
    for old, new in edits:
        if program.count(old) != 1:
            raise ValueError(f"{old!r} stands {program.count(old)} times in:\n{program}")
        program = program.replace(old, new)
    return program


# What several programs have in common.
CLEAR = "            optimizer.zero_grad()\n"
LOSS = "            loss = F.cross_entropy(net(x), y)\n"
BACK = "            loss.backward()\n"
STEP = "            optimizer.step()\n"
RATE = "    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)\n"
SGD = (RATE, "    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n")
SHUFFLE = "batch_size=8, shuffle=True"
IN_ORDER = (SHUFFLE, "batch_size=8")
BUILD = "    net = Net()\n"
EPOCHS = "    for epoch in range(2):\n"
MODE = "        net.train()\n"
BODY = "nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)"
NORM = (BODY, "nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)")
OWN_ORDER = ("shuffle=True", "shuffle=True, generator=torch.Generator().manual_seed(0)")
DROPOUT = (BODY, "nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)")
VALIDATE = (
    STEP,
    STEP
    + """\
        net.eval()
        with torch.no_grad():
            net(held_out)
""",
)
HELD_OUT = (BUILD, "    held_out = torch.randn(16, 6)\n" + BUILD)
# Four samples at a time, two of these batches a step.
IN_PARTS = (
    (SHUFFLE, "batch_size=4"),
    (
        f"        for x, y in loader:\n{CLEAR}{LOSS}{BACK}{STEP}",
        """\
        for number, (x, y) in enumerate(loader):
            if number % 2 == 0:
                optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y) / 2
            loss.backward()
            if number % 2 == 1:
                optimizer.step()
""",
    ),
    ("torch.randn(44, 6), torch.arange(44)", "torch.randn(48, 6), torch.arange(48)"),
)
SCHEDULER = "    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)\n"
TABLE = """\
    rates = [1, 0.5, 0.3, 0.2, 0.1, 0.05]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: rates[epoch])
"""
EACH_EPOCH = ((RATE, RATE + SCHEDULER), (STEP, STEP + "        scheduler.step()\n"))
EACH_STEP = ((RATE, RATE + SCHEDULER), (STEP, STEP + "            scheduler.step()\n"))
CLIP = "            nn.utils.clip_grad_norm_(net.parameters(), 0.1)\n"
TEACHER = (
    BUILD,
    """\
    teacher = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.5), nn.Linear(16, 3)).eval()
"""
    + BUILD,
)
DISTIL = (
    LOSS,
    """\
            with torch.no_grad():
                soft = teacher(x).softmax(1)
            loss = F.cross_entropy(net(x), soft)
""",
)
EMBEDDED = (
    ("nn.Sequential):", "nn.Module):"),
    (
        f"        super().__init__({BODY})\n",
        """\
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 8), nn.Linear(8, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.embed(x))
""",
    ),
    ("torch.randn(44, 6), torch.arange(44) % 3", "torch.randint(9, (44,)), torch.arange(44) % 9"),
)
TOKENS = (
    *IN_PARTS[:1],
    IN_PARTS[2],
    ("torch.arange(48) % 3", "torch.where(torch.rand(48) < 0.4, -100, torch.arange(48) % 3)"),
    (
        f"        for x, y in loader:\n{CLEAR}{LOSS}{BACK}{STEP}",
        """\
        for (x, y), (x2, y2) in zip(*[iter(loader)] * 2):
            tokens = (y >= 0).sum() + (y2 >= 0).sum()
            optimizer.zero_grad()
            for part, targets in ((x, y), (x2, y2)):
                loss = F.cross_entropy(net(part), targets, reduction="sum") / tokens
                loss.backward()
            optimizer.step()
""",
    ),
)
CRITIC = (
    ("nn.Sequential):", "nn.Module):"),
    (
        f"        super().__init__({BODY})\n",
        """\
        super().__init__()
        self.generator, self.critic = nn.Linear(6, 6), nn.Linear(6, 1)
""",
    ),
    (
        RATE,
        """\
    optimizer = torch.optim.Adam(net.generator.parameters(), lr=0.01)
    other = torch.optim.Adam(net.critic.parameters(), lr=0.01)
""",
    ),
    (
        f"{CLEAR}{LOSS}{BACK}{STEP}",
        """\
            optimizer.zero_grad()
            F.softplus(-net.critic(net.generator(x))).mean().backward()
            optimizer.step()
            other.zero_grad()
            F.softplus(net.critic(net.generator(x).detach())).mean().backward()
            other.step()
""",
    ),
)
SCALED = (
    SGD,
    (EPOCHS, '    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)\n' + EPOCHS),
    (
        BACK + STEP,
        """\
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
""",
    ),
)
PENALTY = (
    LOSS,
    """\
            x.requires_grad_()
            output = net(x)
            (slope,) = torch.autograd.grad(output.sum(), x, create_graph=True)
            loss = F.cross_entropy(output, y) + slope.square().mean()
""",
)
RECURRENT = (
    IN_ORDER,
    ("torch.randn(44, 6), torch.arange(44)", "torch.randn(48, 6, 1), torch.arange(48)"),
    ("nn.Sequential):", "nn.Module):"),
    (
        f"        super().__init__({BODY})\n",
        """\
        super().__init__()
        self.rnn, self.head = nn.GRU(1, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x, state):
        output, state = self.rnn(x, state)
        return self.head(output[:, -1]), state
""",
    ),
    (MODE, MODE + "        state = torch.zeros(1, 8, 8)\n"),
    (
        LOSS,
        """\
            output, state = net(x, state.detach())
            loss = F.cross_entropy(output, y)
""",
    ),
)
PLATEAU = (
    ("range(2)", "range(4)"),
    HELD_OUT,
    (
        RATE,
        RATE
        + """\
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
""",
    ),
    (STEP, STEP + "        scheduler.step(net(held_out).square().mean().item())\n"),
)
BRANCHES = (
    SGD,
    (SGD[1], "    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.01)\n"),
    ("nn.Sequential):", "nn.Module):"),
    (
        f"        super().__init__({BODY})\n",
        """\
        super().__init__()
        self.even, self.odd = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x, number):
        return (self.odd if number % 2 else self.even)(x)
""",
    ),
    ("for x, y in loader:", "for number, (x, y) in enumerate(loader):"),
    ("net(x)", "net(x, number)"),
)
SHARED = (("\n\ndef train", "\n\nNET = Net()\n\n\ndef train"), ("net = Net()", "net = NET"))
NOISY_DATA = (
    ("from torch import nn\n", "from torch import nn\nimport numpy as np\n"),
    (
        "\n\nclass Net",
        """

class Noisy(TensorDataset):
    def __getitem__(self, place):
        x, y = super().__getitem__(place)
        return x + torch.tensor(np.random.normal(size=6), dtype=torch.float32), y


class Net""",
    ),
    ("    torch.manual_seed(0)\n", "    torch.manual_seed(0)\n    np.random.seed(0)\n"),
    ("DataLoader(TensorDataset(x, y)", "DataLoader(Noisy(x, y)"),
)
OWN_ADAM = (
    (
        "\n\ndef train",
        """

class Adam(torch.optim.Adam):
    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1)


def train""",
    ),
    ("torch.optim.Adam(net", "Adam(net"),
)
CHECKPOINTED = (
    DROPOUT,
    (
        "from torch.utils.data",
        "from torch.utils.checkpoint import checkpoint\nfrom torch.utils.data",
    ),
    ("net(x)", "checkpoint(net, x, use_reentrant=False)"),
)

# The same loss by another formula, in a training that enlarges what rounds otherwise.
WILD = (
    (
        (
            LOSS,
            """\
            logits = net(x)
            loss = (logits.logsumexp(1) - logits.gather(1, y[:, None])[:, 0]).mean()
""",
        ),
    ),
    (
        (BODY, "nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)"),
        (RATE, "    optimizer = torch.optim.SGD(net.parameters(), lr=10.0)\n"),
        ("range(2)", "range(6)"),
    ),
)

PLANTED = (
    # Before the first step
    Planted(
        "other seed or build order",
        "The very first losses differ.",
        (("torch.manual_seed(0)", "torch.manual_seed(1)"),),
    ),
    Planted(
        "other initialisation",
        "A port starts from a higher or lower loss than the loop, whatever the seed.",
        ((BUILD, BUILD + "    nn.init.xavier_uniform_(net[0].weight, gain=3)\n"),),
    ),
    Planted(
        "not the same model",
        "State cannot be loaded from one into the other; sizes mismatch.",
        ((BODY, "nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3)"),),
    ),
    Planted(
        "tied weights",
        "The model has grown by the size of its embedding.",
        (("self.head.weight = self.embed.weight", "self.head.weight = nn.Parameter("
          "self.embed.weight.clone())"),),
        EMBEDDED,
    ),
    Planted(
        "other parameters handed to the optimizer",
        "Part of the network never changes.",
        (("Adam(net.parameters()", "Adam(net[2].parameters()"),),
    ),
    Planted(
        "same model trained twice",
        "The second run starts with a loss as low as the first one ended with.",
        (),
        SHARED,
        again=True,
    ),
    # Batches
    Planted(
        "other batches",
        "Losses differ from the first step on; the samples are the same.",
        ((LOSS, "            x = x / 2\n" + LOSS),),
    ),
    Planted(
        "other batch order",
        "Losses differ from the first step on, and end up about alike.",
        (("manual_seed(0))", "manual_seed(1))"),),
        (OWN_ORDER,),
    ),
    Planted(
        "other batch order: one run repeats its order",
        "The loss goes up and down in the same pattern in each epoch.",
        ((SHUFFLE, "batch_size=8, shuffle=False"),),
    ),
    Planted(
        "other batch order: validation in one loop only",
        "The first epoch is equal, every later one is not.",
        ((STEP, STEP + "        with torch.no_grad():\n            for x, y in validation:\n"
          "                net(x)\n"),),
        ((BUILD, BUILD + "    validation = DataLoader(TensorDataset(x, y), batch_size=16)\n"),),
    ),
    Planted(
        "validation draws",
        "The first epoch is equal; after the first validation the runs part.",
        (("net(held_out)\n", "net(held_out + 0.1 * torch.randn(16, 6))\n"),),
        (HELD_OUT, VALIDATE),
    ),
    Planted(
        "extra random draw",
        "A harmless look at a batch changes all batches after it.",
        ((STEP, STEP + "        shown = next(iter(loader))\n"),),
    ),
    Planted(
        "other random numbers in the data",
        "The same samples come in the same order, and yet their values differ.",
        (("DataLoader(Noisy(x, y)", "DataLoader(Noisy(x + np.random.normal() * 0, y)"),),
        NOISY_DATA,
    ),
    Planted(
        "other batch order after a full last batch",
        "The first epoch is equal, and the order of every later one is another.",
        (("in loader:", "in islice(loader, len(loader)):"),),
        (
            ("import torch\nfrom torch import nn", "from itertools import islice\n\n"
             "import torch\nfrom torch import nn"),
            ("torch.randn(44, 6), torch.arange(44)", "torch.randn(48, 6), torch.arange(48)"),
            OWN_ORDER,
        ),
    ),
    Planted(
        "drop_last",
        "An epoch has a step less.",
        (("shuffle=True", "shuffle=True, drop_last=True"),),
    ),
    Planted(
        "an epoch ends earlier in one run",
        "One run is through its data before the other.",
        (("            optimizer.zero_grad()\n", "            if number == 4:\n"
          "                break\n            optimizer.zero_grad()\n"),),
        (IN_ORDER, ("for x, y in loader:", "for number, (x, y) in enumerate(loader):")),
    ),
    Planted(
        "accumulation in one",
        "Half as many steps, with larger batches.",
        (("        for x, y in loader:\n", "        for number, (x, y) in enumerate(loader):\n"),
         (CLEAR + LOSS, "            if number % 2 == 0:\n                optimizer.zero_grad()\n"
          + LOSS), (STEP, "            if number % 2 == 1:\n                optimizer.step()\n")),
        (("torch.randn(44, 6), torch.arange(44)", "torch.randn(48, 6), torch.arange(48)"),),
    ),
    Planted(
        "hidden state",
        "A recurrent network forgets at each batch what it has read.",
        (("net(x, state.detach())", "net(x, torch.zeros(1, 8, 8))"),),
        RECURRENT,
    ),
    Planted(
        "a step without a backward pass",
        "Weights change twice for one batch.",
        ((STEP, STEP + STEP),),
    ),
    # Modes and the forward pass
    Planted(
        "forgotten train()",
        "After the first validation the network learns without its dropout.",
        ((MODE, ""),),
        (DROPOUT, HELD_OUT, VALIDATE),
    ),
    Planted(
        "forgotten eval()",
        "Validation differs from run to run, and training is another one after it.",
        (("        net.eval()\n", ""),),
        (DROPOUT, HELD_OUT, VALIDATE),
    ),
    Planted(
        "frozen batch norm",
        "A backbone's statistics stay as they were, or start to move.",
        ((MODE, MODE + "        net[1].eval()\n"),),
        (NORM,),
    ),
    Planted(
        "other precision",
        "Numbers agree to two or three digits only.",
        ((LOSS, '            with torch.autocast("cpu", torch.bfloat16):\n'
          "                loss = F.cross_entropy(net(x), y)\n"),),
    ),
    Planted(
        "weights changed between steps",
        "Weights are not where the last step left them.",
        ((STEP, STEP + "            net[0].weight.data.clamp_(-0.2, 0.2)\n"),),
    ),
    Planted(
        "batch norm in parts",
        "Accumulated batches learn worse than the large batch that they stand for.",
        (("batch_size=8", "batch_size=4"),
         (f"        for x, y in loader:\n{CLEAR}{LOSS}{BACK}{STEP}", IN_PARTS[1][1])),
        (NORM, SGD, IN_ORDER, IN_PARTS[2]),
    ),
    Planted(
        "another network in training mode",
        "A teacher or a loss network gives other targets each time.",
        ((".eval()\n", "\n"),),
        (TEACHER, DISTIL),
    ),
    Planted(
        "other random numbers in the model",
        "The first epoch is equal; then dropout leaves out other units.",
        ((STEP, STEP + "        torch.rand(1)\n"),),
        (DROPOUT, IN_ORDER),
    ),
    Planted(
        "other forward pass",
        "The same weights and the same batch, and another output.",
        ((BODY, "nn.Linear(6, 16), nn.LeakyReLU(), nn.Linear(16, 3)"),),
    ),
    # Gradients
    Planted(
        "forgotten zero_grad()",
        "The loss falls more slowly than it should, or goes up again; there is no error.",
        ((CLEAR, ""),),
    ),
    Planted(
        "gradients cleared before the step",
        "The loss does not move at all.",
        ((BACK, BACK + "            optimizer.zero_grad()\n"),),
        (("Adam(net.parameters(), lr=0.01)", "SGD(net.parameters(), lr=0.1, momentum=0.9)"),),
    ),
    Planted(
        "gradients cleared within the accumulation",
        "Accumulating gains nothing: it learns as with the small batch.",
        (("            if number % 2 == 0:\n                optimizer.zero_grad()\n",
          "            optimizer.zero_grad()\n"),),
        IN_PARTS,
    ),
    Planted(
        "gradients left over from another loss",
        "In a GAN, one network is drawn along by the other one's loss.",
        (("            other.zero_grad()\n", ""),
         (CLEAR, CLEAR + "            other.zero_grad()\n")),
        CRITIC,
    ),
    Planted(
        "token means under accumulation",
        "With padded sequences, accumulating gives another loss than the large batch.",
        (('F.cross_entropy(net(part), targets, reduction="sum") / tokens',
          "F.cross_entropy(net(part), targets) / 2"),),
        TOKENS,
    ),
    Planted(
        "gradients a constant factor apart",
        "It learns as if the learning rate were another one.",
        (("F.cross_entropy(net(x), y)", 'F.cross_entropy(net(x), y, reduction="sum")'),),
    ),
    Planted(
        "gradient cut off",
        "The loss is computed, and nothing learns.",
        (("F.cross_entropy(net(x), y)", "F.cross_entropy(net(x).round(), y)"),),
    ),
    Planted(
        "unscale",
        "With mixed precision and clipping it hardly learns.",
        (("            scaler.unscale_(optimizer)\n", ""),),
        SCALED,
    ),
    Planted(
        "clipping in one",
        "The runs part where gradients are large.",
        ((STEP, CLIP + STEP),),
    ),
    Planted(
        "create_graph",
        "A gradient penalty has the right value and no effect.",
        ((", create_graph=True", ", retain_graph=True"),),
        (PENALTY,),
    ),
    Planted(
        "other random numbers in the backward pass",
        "With activation checkpointing, outputs and losses are equal and gradients are not.",
        (("use_reentrant=False", "use_reentrant=False, preserve_rng_state=False"),),
        CHECKPOINTED,
    ),
    Planted(
        "other loss or gradient",
        "Outputs are equal, losses are not.",
        (("F.cross_entropy(net(x), y)", "F.cross_entropy(net(x), y, label_smoothing=0.1)"),),
    ),
    Planted(
        "another network handed to the optimizer",
        "A loss network learns to make the loss small, in place of the model.",
        (("Adam(net.parameters()", "Adam([*net.parameters(), *helper.parameters()]"),),
        (
            (BUILD, "    helper = nn.Linear(3, 3)\n" + BUILD),
            ("cross_entropy(net(x), y)", "cross_entropy(helper(net(x)), y)"),
        ),
    ),
    # Learning rates
    Planted(
        "other learning rate",
        "One run learns faster.",
        (("lr=0.01", "lr=0.02"),),
    ),
    Planted(
        "scheduler per step in one, per epoch in the other",
        "The learning rate falls to nothing within an epoch, or hardly at all.",
        (("        scheduler.step()\n", "            scheduler.step()\n"),),
        EACH_EPOCH,
    ),
    Planted(
        "scheduler per epoch in one, not in the other",
        "The learning rate never falls.",
        (("        scheduler.step()\n", ""),),
        EACH_EPOCH,
    ),
    Planted(
        "scheduler per step in one, not in the other",
        "The learning rate never falls.",
        (("            scheduler.step()\n", ""),),
        EACH_STEP,
    ),
    Planted(
        "scheduler one step apart",
        "Each epoch has the learning rate of the next.",
        ((TABLE, TABLE + "    scheduler.step()\n"),),
        (("range(2)", "range(4)"), (RATE, RATE + TABLE), EACH_EPOCH[1]),
    ),
    Planted(
        "scheduler in another rhythm",
        "The learning rate falls twice as fast.",
        (("            scheduler.step()\n", "            scheduler.step()\n" * 2),),
        EACH_STEP,
    ),
    Planted(
        "monitor",
        "The learning rate is lowered in another epoch.",
        (("net(held_out).square().mean()", "-net(held_out).square().mean()"),),
        PLATEAU,
    ),
    Planted(
        "scheduler per batch in one, per step in the other",
        "Under accumulation, warm-up is over too early or too late.",
        (("            scheduler.step()\n", "                scheduler.step()\n"),),
        (
            *IN_PARTS,
            (RATE, RATE + SCHEDULER),
            ("                optimizer.step()\n",
             "                optimizer.step()\n            scheduler.step()\n"),
        ),
    ),
    # The update
    Planted(
        "other optimizer settings",
        "Gradients are equal, and weights are not.",
        (("lr=0.01", "lr=0.01, weight_decay=0.1"),),
    ),
    Planted(
        "optimizer rebuilt or used before",
        "The loss jumps at the start of each epoch.",
        ((MODE, MODE + "        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)\n"),),
    ),
    Planted(
        "zero instead of none",
        "Layers that took no part in a step change all the same.",
        (("zero_grad()", "zero_grad(set_to_none=False)"),),
        BRANCHES,
    ),
    Planted(
        "other update",
        "Gradients, rates and settings are equal, and weights are not.",
        (("                p.mul_(1)\n", "                p.mul_(0.999)\n"),),
        OWN_ADAM,
    ),
    Planted(
        "track_running_stats",
        "Training is equal, and validation is not.",
        ((MODE, MODE + "        net[1].track_running_stats = False\n"),),
        (NORM,),
    ),
    Planted(
        "batch norm momentum",
        "Training is equal, and validation is not.",
        (("nn.BatchNorm1d(16)", "nn.BatchNorm1d(16, momentum=0.9)"),),
        (NORM,),
    ),
    Planted(
        "other buffers",
        "Training is equal, and validation is not.",
        ((STEP, STEP + "            net[1].running_mean.zero_()\n"),),
        (NORM,),
    ),
    # The end
    Planted(
        "one run is shorter",
        "Everything is equal, and one run stops.",
        (("range(2)", "range(3)"),),
    ),
    Planted(
        "weights changed after the last step",
        "All losses are equal, and the trained network is another one.",
        ((STEP, STEP + "    net[0].weight.data.mul_(0.99)\n"),),
    ),
    Planted(
        "rounding",
        "Losses agree to six digits or so, and not bit for bit.",
        (("lr=0.01)", "lr=0.01, fused=True)"),),
    ),
    Planted(
        "more than rounding",
        "Losses agree at first, and then less and less (two traces, which cannot be run again).",
        *WILD,
        traces=True,
    ),
    Planted("rounding that grew", "Losses agree at first, and then less and less.", *WILD),
    Planted(
        "rounding, for a reason that was not recorded",
        "Losses agree to six digits or so, and nothing is known to differ.",
        (("                p.mul_(1)\n", "                p.mul_(1 + 1e-7)\n"),),
        OWN_ADAM,
    ),
    # A run that is not equal to itself
    Planted(
        "not repeatable: torch's generator",
        "The same program gives other numbers each time.",
        (("    torch.manual_seed(0)\n", ""),),
    ),
    Planted(
        "not repeatable: NumPy's generator",
        "The same program gives other numbers each time, though torch is seeded.",
        (("    np.random.seed(0)\n", ""),),
        NOISY_DATA,
    ),
    Planted(
        "not repeatable: a random source that is not seen",
        "The same program gives other numbers each time, though everything is seeded.",
        (("\n\ndef train", "\n\nNOISE = torch.Generator().manual_seed(0)\n\n\ndef train"),
         ("F.cross_entropy(net(x), y)", "F.cross_entropy(net(x), y) * torch.rand((), "
          "generator=NOISE)")),
    ),
    Planted(
        "not repeatable: a loader's generator goes on",
        "Run a second time in the same process, the batches come in another order.",
        (("\n\ndef train", "\n\nGENERATOR = torch.Generator().manual_seed(0)\n\n\ndef train"),
         ("shuffle=True", "shuffle=True, generator=GENERATOR")),
    ),
    Planted(
        "not repeatable: it trains the same model again",
        "Run a second time, it starts with a lower loss.",
        SHARED,
    ),
)  # fmt: skip
