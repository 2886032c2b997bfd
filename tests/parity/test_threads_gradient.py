"""Ports whose gradients went wrong in public, and what the doctor says of them."""

import logging
from functools import partial

import pytest
import torch
from parity_loops import BATCH, CLASSES, EPOCH, FEATURES, Plan, data, loader, sgd
from threads import Manual, Thread, by_hand, check
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from course_utils.parity import trace

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

LIMIT = 0.1
even = partial(loader, samples=data(samples=48))


# Clipping


class ClipsInTrainingStep(Manual):
    """Clips before the Trainer calls `backward`."""

    def __init__(self, plan, model):
        super().__init__(plan, model)
        self.automatic_optimization = True

    def training_step(self, batch, batch_index):
        clip_grad_norm_(self.model.parameters(), LIMIT)
        return self.loss_of(batch, batch_index)


def scaled_step(plan, model, optimizer, batch, place):
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer.zero_grad()
    scaler.scale(plan.compute(model, batch, place)).backward()
    scaler.unscale_(optimizer)
    clip_grad_norm_(model.parameters(), LIMIT)
    scaler.step(optimizer)
    scaler.update()


class Scales(Manual):
    def __init__(self, plan, model):
        super().__init__(plan, model)
        self.scaler, self.unscales = torch.amp.GradScaler("cpu", init_scale=1024.0), True

    def training_step(self, batch, batch_index):
        optimizer = self.optimizers().optimizer
        optimizer.zero_grad()
        self.scaler.scale(self.loss_of(batch, batch_index)).backward()
        if self.unscales:
            self.scaler.unscale_(optimizer)
        clip_grad_norm_(self.model.parameters(), LIMIT)
        self.scaler.step(optimizer)
        self.scaler.update()


class ClipsScaled(Scales):
    def __init__(self, plan, model):
        super().__init__(plan, model)
        self.unscales = False


CLIPPING = {
    "clipped inside training_step": Thread(
        "nano-world-model PR #22",
        "gradient @1: clipping in one",
        Plan(clip_norm=LIMIT),
        {"clip_norm": None, "module": ClipsInTrainingStep},
        says=("Lightning clips before `backward()`",),
    ),
    "clipped while scaled": Thread(
        "pytorch-lightning #18089, #9330, pytorch/examples #1196",
        "gradient @1: unscale",
        Plan(optimizer=sgd()),
        {"module": ClipsScaled},
        {"module": Scales},
        ("Lightning clips while its gradients are still multiplied", "scaler.unscale_"),
        raw=partial(by_hand, scaled_step),
    ),
}


# When gradients are set to zero


def lbfgs_step(plan, model, optimizer, batch, place):
    def closure():
        optimizer.zero_grad()
        loss = plan.compute(model, batch, place)
        loss.backward()
        return loss

    optimizer.step(closure)


class ClearsOutsideTheClosure(Manual):
    def training_step(self, batch, batch_index):
        optimizer = self.optimizers()
        optimizer.zero_grad()

        def closure():
            loss = self.loss_of(batch, batch_index)
            self.manual_backward(loss)
            return loss

        optimizer.step(closure)


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimization: a step up, the closure's gradient there, a step down."""

    def __init__(self, params, radius=0.05, **settings):
        super().__init__(params, {"radius": radius, **settings})
        self.base = torch.optim.SGD(self.param_groups, **settings)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def step(self, closure):
        params = [p for group in self.param_groups for p in group["params"]]
        before = [p.clone() for p in params]
        norm = float(torch.stack([p.grad.norm() for p in params]).norm())
        for p in params:
            p.add_(p.grad, alpha=0.05 / norm)
        torch.enable_grad()(closure)()
        for p, value in zip(params, before, strict=True):
            p.copy_(value)
        self.base.step()


def sam_step(plan, model, optimizer, batch, place):
    def closure():
        optimizer.zero_grad()
        plan.compute(model, batch, place).backward()

    plan.compute(model, batch, place).backward()
    optimizer.step(closure)
    optimizer.zero_grad()


class Sharp(Manual):
    clears = True

    def training_step(self, batch, batch_index):
        optimizer = self.optimizers(use_pl_optimizer=False)

        def closure():
            if self.clears:
                optimizer.zero_grad()
            self.manual_backward(self.loss_of(batch, batch_index))

        self.manual_backward(self.loss_of(batch, batch_index))
        optimizer.step(closure)
        optimizer.zero_grad()


class SharpWithoutClearing(Sharp):
    clears = False


class ClearsEachBatch(Manual):
    def training_step(self, batch, batch_index):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss_of(batch, batch_index) / 3)
        if batch_index % 3 == 2:
            optimizer.step()


class ClearsBeforeTheStep(Manual):
    def training_step(self, batch, batch_index):
        optimizer = self.optimizers()
        self.manual_backward(self.loss_of(batch, batch_index))
        optimizer.zero_grad()
        optimizer.step()


class GAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, FEATURES))
        self.critic = nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, 1))

    def optimizers(self):
        parts = self.generator, self.critic
        return [torch.optim.Adam(part.parameters(), 1e-3) for part in parts]

    def losses(self, x):
        """Yield the generator's loss, then the critic's."""
        fake = self.generator(torch.randn(len(x), 4))
        yield F.softplus(-self.critic(fake)).mean()
        fake = self.generator(torch.randn(len(x), 4)).detach()
        yield F.softplus(self.critic(fake)).mean() + F.softplus(-self.critic(x)).mean()


def gan(plan):
    torch.manual_seed(plan.seed)
    model = plan.model()
    with trace(model) as record:
        optimizers, batches = model.optimizers(), plan.loader()
        for _ in range(plan.epochs):
            for x, _ in batches:
                for optimizer, loss in zip(optimizers, model.losses(x), strict=True):
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
    return record


class Adversarial(Manual):
    late = True  # whether each optimizer clears right before its own backward

    def configure_optimizers(self):
        return self.model.optimizers()

    def training_step(self, batch, batch_index):
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        for optimizer, loss in zip(optimizers, self.model.losses(batch[0]), strict=True):
            if self.late:
                optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()


class AdversarialClearedAtOnce(Adversarial):
    late = False


ZERO_GRAD = {
    "LBFGS cleared outside its closure": Thread(
        "pytorch-lightning #4083",
        "gradient @1: forgotten zero_grad()",
        Plan(optimizer=partial(torch.optim.LBFGS, lr=0.1, max_iter=5)),
        {"module": ClearsOutsideTheClosure},
        says=("In Lightning gradients add up within a step", "Lightning: 5 of 5 backward passes"),
        raw=partial(by_hand, lbfgs_step),
    ),
    "SAM's closure does not clear": Thread(
        "davda54/sam #8, #31",
        "gradient @1: forgotten zero_grad()",
        Plan(optimizer=partial(SAM, lr=0.1, momentum=0.9)),
        {"module": SharpWithoutClearing},
        {"module": Sharp},
        ("In Lightning gradients add up within a step",),
        raw=partial(by_hand, sam_step),
    ),
    "cleared for each batch of a step": Thread(
        "huggingface/accelerate #1299, bytetriper/RAE #67",
        "gradient @1: gradients cleared within the accumulation",
        Plan(loader=partial(even, shuffle=False), accumulate=3),
        {"module": ClearsEachBatch, "accumulate": 1},
        says=("Lightning: 1 of 3 backward passes are in the gradient",),
    ),
    "cleared between backward and step": Thread(
        "where does zero_grad() belong: forum questions",
        "gradient @1: gradients cleared before the step",
        Plan(optimizer=sgd(momentum=0.9)),
        {"module": ClearsBeforeTheStep},
        {"module": Manual},
        ("Lightning calls `zero_grad()` between `backward()` and `step()`", "(None)"),
    ),
    "the generator's gradients in the critic": Thread(
        "pytorch-lightning #557, #591",
        "gradient @2: gradients left over from another loss",
        Plan(model=GAN),
        {"module": AdversarialClearedAtOnce},
        {"module": Adversarial},
        ("In Lightning the loss of another optimizer has left gradients",),
        raw=gan,
    ),
}


# What is differentiated


def sigmoid_net():
    return nn.Sequential(nn.Linear(FEATURES, 1), nn.Sigmoid())


def bce(output, y):
    return F.binary_cross_entropy(output[:, 0], (y > 0).float())


def bce_of_logits(output, y):
    return F.binary_cross_entropy_with_logits(output[:, 0], (y > 0).float())


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.table = nn.Linear(FEATURES, 8), nn.Linear(2, 8)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x, z):
        return self.head(torch.cat([self.image(x), self.table(z)], 1).relu())


def in_parts(model, batch, place):
    x, y = batch
    hidden = torch.cat([model.image(x), model.table(x[:, :2])], 1).relu()
    return F.cross_entropy(model.head(hidden), y)


def at_once(model, batch, place, shift=0):
    x, y = batch
    return F.cross_entropy(model(x, x[:, :2]), (y + shift) % CLASSES)


class TokensAndPlaces(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.place = nn.Linear(FEATURES, 8), nn.Embedding(FEATURES, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(self.token(x) + self.place(torch.arange(FEATURES)).mean(0))


def by_forward(model, batch, place):
    return F.cross_entropy(model.forward(batch[0]), batch[1], label_smoothing=0.1)


def language():
    return nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 11))


def sentences(words=7):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 11, (48, words), generator=generator)
    return DataLoader(TensorDataset(x), BATCH, shuffle=True)


def next_word(model, batch, place, shift=1):
    (x,) = batch
    return F.cross_entropy(model(x)[:, :-1].flatten(0, 1), x[:, shift:][:, :6].flatten())


def critic():
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, 1))


def penalised(model, batch, place, graph=True):
    x = batch[0].clone().requires_grad_()
    output = model(x).sum()
    (slope,) = torch.autograd.grad(output, x, create_graph=graph, retain_graph=True)
    return output / len(x) + 10 * (slope.norm(dim=1) - 1).square().mean()


class Fourier(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, dtype=torch.cfloat))
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x):
        return self.head(torch.fft.irfft(torch.fft.rfft(x) * self.weight, n=FEATURES))


def with_imaginary_penalty(model, batch, place):
    loss = F.cross_entropy(model(batch[0]), batch[1])
    return loss + 0.1 * model.weight.imag.square().sum()


def cross_entropy_by_hand(output, y):
    return (output.exp().sum(1).log() - output[torch.arange(len(y)), y]).mean()


def annealed(loss, model, batch, place, weight=2e-3):
    output = model(batch[0])
    extra = weight * output.square().mean() if place.epoch else 0
    return loss(output, batch[1]) + extra


def warming(unit, model, batch, place):
    """A term of the loss grows with the steps, or with twice as many: one for each optimizer."""
    output, step = model(batch[0]), unit * (EPOCH * place.epoch + place.batch)
    return F.cross_entropy(output, batch[1]) + min(1.0, step / 20) * output.square().mean()


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.head = nn.Linear(FEATURES, 4), nn.Linear(16, CLASSES)
        self.experts = nn.ModuleList(nn.Linear(FEATURES, 16) for _ in range(4))

    def forward(self, x):
        share = self.gate(x).float().softmax(1)
        mixed = sum(share[:, i : i + 1] * expert(x).relu() for i, expert in enumerate(self.experts))
        used = F.one_hot(share.argmax(1), 4).float().mean(0)
        return self.head(mixed), 4 * (used * share.mean(0)).sum()


def routed(model, batch, place, weight=0.01):
    output, balance = model(batch[0])
    return F.cross_entropy(output, batch[1]) + weight * balance


class Checkpointed(nn.Module):
    def __init__(self, keep=True):
        super().__init__()
        self.keep, self.head = keep, nn.Linear(16, CLASSES)
        self.block = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Dropout(0.3))

    def forward(self, x):
        again = partial(checkpoint, use_reentrant=False, preserve_rng_state=self.keep)
        return self.head(again(self.block, x))


def contrastive(output):
    unit = F.normalize(output, dim=1)
    like = unit @ unit.flip(0).T / 0.02
    return F.cross_entropy(like.float(), torch.arange(len(output)))


def outside_autocast(model, batch, place):
    output = model(batch[0])
    with torch.autocast("cpu", enabled=False):
        return contrastive(output.float())


def inside_autocast(model, batch, place):
    return contrastive(model(batch[0]))


class Probed(Manual):
    """Trains a probe on the model's outputs by the same optimizer."""

    def __init__(self, plan, model):
        super().__init__(plan, model)
        self.automatic_optimization = True
        with torch.random.fork_rng():
            self.probe = nn.Linear(CLASSES, 2)

    def training_step(self, batch, batch_index):
        with torch.no_grad(), torch.random.fork_rng():
            self.model.eval()
            features = self.model(batch[0])
            self.model.train()
        probe = F.cross_entropy(self.probe(features), batch[1] % 2)
        return self.loss_of(batch, batch_index) + probe

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


def smoothed_later(model, batch, place):
    smoothing = 0.1 if place.epoch else 0.0
    return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=smoothing)


def last_batch_by_full_size(output, y):
    return F.cross_entropy(output, y, reduction="sum") / BATCH


LOSSES = {
    "a sigmoid too many": Thread(
        "lightning-bolts #655",
        "gradient @1: other loss or gradient",
        Plan(model=sigmoid_net, loss=bce),
        {"loss": bce_of_logits},
        says=("Batch, mode and forward output are equal", "BinaryCrossEntropyWithLogits"),
    ),
    "branches called one by one, and other targets": Thread(
        "multi-modal loops",
        "gradient @1: other loss or gradient",
        Plan(model=TwoInputs, objective=in_parts),
        {"objective": partial(at_once, shift=1)},
        {"objective": at_once},
        ("The losses differ",),
    ),
    "forward called directly, and no smoothing": Thread(
        "loops that call model.forward(x)",
        "gradient @1: other loss or gradient",
        Plan(model=TokensAndPlaces, objective=by_forward),
        {"objective": None},
        {"objective": None, "loss": partial(F.cross_entropy, label_smoothing=0.1)},
        ("The losses differ",),
    ),
    "targets not shifted": Thread(
        "language model ports",
        "gradient @1: other loss or gradient",
        Plan(model=language, loader=sentences, objective=next_word),
        {"objective": partial(next_word, shift=0)},
        says=("The losses differ", "other targets"),
    ),
    "a penalty without a graph": Thread(
        "WGAN-GP ports",
        "gradient @1: create_graph",
        Plan(model=critic, objective=penalised),
        {"objective": partial(penalised, graph=False)},
        says=("Lightning takes a gradient inside its loss without `create_graph=True`",),
    ),
    "a penalty on imaginary parts": Thread(
        "neuraloperator: complex spectral weights",
        "gradient @1: other loss or gradient",
        Plan(model=Fourier, optimizer=sgd(0.01)),
        {"objective": with_imaginary_penalty},
        says=("The losses differ",),
    ),
    "a term that hides behind another formula": Thread(
        "beta-VAE annealing",
        f"gradient @{EPOCH + 1}: other loss or gradient",
        Plan(objective=partial(annealed, F.cross_entropy), optimizer=sgd()),
        {"objective": partial(annealed, cross_entropy_by_hand, weight=0.0)},
        {"objective": partial(annealed, cross_entropy_by_hand)},
        ("The losses differ",),
        mended_is="equal within rounding: rounding",
    ),
    "a warm-up twice as fast": Thread(
        "pytorch-lightning #17958, lightning-hydra-template #409",
        "gradient @2: other loss or gradient",
        Plan(objective=partial(warming, 1)),
        {"objective": partial(warming, 2)},
        says=("The losses differ",),
    ),
    "the router's loss missing under bf16": Thread(
        "jingyaogong/minimind #140, huggingface/trl PR #6085",
        "gradient @1: other loss or gradient",
        Plan(model=Experts, autocast=True, objective=routed),
        {"objective": partial(routed, weight=0.0)},
        says=("The losses differ", "an extra term"),
    ),
    "checkpointing without random states": Thread(
        "allenai/OLMo PR #702, OLMo-core PR #828",
        "gradient @1: other random numbers in the backward pass",
        Plan(model=Checkpointed),
        {"model": partial(Checkpointed, keep=False)},
        says=("Lightning computes layers again", "preserve_rng_state=True"),
    ),
    "a loss computed under autocast": Thread(
        "Peterande/D-FINE #361, sentence-transformers #1045",
        "gradient @1: other precision",
        Plan(autocast=True, optimizer=sgd(0.05), objective=outside_autocast),
        {"objective": inside_autocast},
        says=("change the number format at other places", "a cast for"),
    ),
    "a probe beside the model, and smoothing later": Thread(
        "bolts' SSLOnlineEvaluator",
        f"gradient @{EPOCH + 1}: other loss or gradient",
        Plan(),
        {"module": Probed, "objective": smoothed_later},
        {"module": Probed},
        ("Batch, mode and forward output are equal",),
    ),
    "the last batch divided by a full one's size": Thread(
        "mitmul/chainer-cifar10 #1, deepspeech.pytorch #317",
        f"gradient @{EPOCH}: gradients a constant factor apart",
        Plan(optimizer=sgd()),
        {"loss": last_batch_by_full_size},
        says=("This batch has 4 samples, those before it 8", "a fixed batch size"),
    ),
}


# Parts of a step


def masked():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randint(1, 11, (2, 48, 7), generator=generator)
    keep = torch.arange(7) < torch.randint(1, 8, (48, 1), generator=generator)
    return DataLoader(TensorDataset(x, y.masked_fill(~keep, -100)), BATCH)


TOKENS = [int(sum((y != -100).sum() for _, y in list(masked())[i : i + 2])) for i in (0, 2, 4)]


def mean_of_means(model, batch, place):
    return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())


def mean_of_tokens(model, batch, place):
    output, tokens = model(batch[0]).flatten(0, 1), TOKENS[place.batch // 2]
    # The loops divide by the number of batches.
    return 2 * F.cross_entropy(output, batch[1].flatten(), reduction="sum") / tokens


def norm():
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.Linear(16, CLASSES))


def frozen_by_rate(model):
    return [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}]


def frozen_by_flag(model):
    model[0].requires_grad_(False)
    return model.parameters()


PARTS = {
    "a mean of means": Thread(
        "torchtune PR #1875, huggingface/transformers #35203",
        "gradient @1: token means under accumulation",
        Plan(model=language, loader=masked, accumulate=2, objective=mean_of_tokens),
        {"objective": mean_of_means},
        says=("A mean of means is not the mean",),
    ),
    "batch norm under accumulation": Thread(
        "forum: accumulation is no larger batch with batch norm",
        "gradient @1: batch norm in parts",
        Plan(model=norm, loader=partial(even, size=16, shuffle=False), optimizer=sgd()),
        {"loader": partial(even, shuffle=False), "accumulate": 2},
        None,
        ("batches of 16", "batches of 8 + 8"),
    ),
    "frozen by a rate of zero, or by a flag": Thread(
        "two ways to freeze",
        "gradient @1: gradient cut off",
        Plan(optimizer=sgd(), parameters=frozen_by_rate),
        {"parameters": frozen_by_flag},
        None,
        ("2 of them do not require a gradient",),
    ),
}

THREADS = CLIPPING | ZERO_GRAD | LOSSES | PARTS


@pytest.mark.parametrize("name", THREADS)
def test_the_gradient_of_a_public_port(name):
    check(THREADS[name])
