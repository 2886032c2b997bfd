# %% [markdown]
# # 3. LeNet: convolutions, and a loop that outgrows its idea
#
# {{badge}}
#
# > A descendant of the network that read cheques in the 1990s, its parts one by one, and a loop with validation and early stopping that Lightning takes over.
#
# Keep the best epoch; stop when it gets no better. Two sentences, and in a loop by hand they become most of the
# program, with a famous trap in it: without a *copy*, "the best weights" are always the last ones, and no error says so.
# Counted in this lesson:
#
# ```text
# 3 of 53 lines are the idea
# equal to the best weights: False
# ```
#
# You write that loop, fall into the trap once, and then let two callbacks do it: the same stop, the same best epoch,
# the same bits.
#
# At the end of this lesson you will
# - have computed a convolution by hand, and know stride, padding, receptive field and pooling by their numbers;
# - have built LeNet, with every shape and all 61,706 parameters checked;
# - have written best-epoch keeping and early stopping by hand, and seen how little of that loop is the idea;
# - have moved it to Lightning with `EarlyStopping`, `ModelCheckpoint` and torchmetrics, and know which hook runs when;
# - have **proved** that both runs make the same steps, get the same validation losses and stop at the same epoch.
#
# **Time**: about 6 minutes of computing on a laptop with full MNIST; a minute with the sample.
#
# **Builds on**: [lesson 1](01_mlp.ipynb), and the logs and checkpoints of [lesson 2](02_autoencoder.ipynb).

# %% tags=["setup"]
# {{setup}}

# %%
import lightning as L
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.digits import MNISTDataModule
from course_utils.files import runs_folder
from course_utils.parity import compare, trace
from course_utils.session import start
from course_utils.views import plots

session = start(42)
device = session.device
written = runs_folder()  # where this lesson writes

# %% [markdown]
# ## 1. The data, with a margin
#
# LeNet takes pictures of 32 x 32 pixels; MNIST has 28 x 28. `pad=2` puts two empty pixels around each
# digit, so that strokes near the border also come to lie in the middle of some filter. Resizing would be the
# other way; it has to invent pixels in between, and blurs.

# %%
# NBVAL_CHECK_OUTPUT
datamodule = MNISTDataModule(pad=2)
datamodule.setup()
digit = datamodule.test.images[:1]
small = digit[..., 2:-2, 2:-2]
resized = F.interpolate(small, size=32, mode="bilinear", align_corners=False)
print("padded: ", list(digit.shape))
print("resized:", list(resized.shape))

# %%
plots.pictures({"28 x 28": small, "padded": digit, "resized": resized})

# %% [markdown]
# ## 2. The pieces
#
# ### A convolution by hand
#
# A convolution slides a small window, the **kernel**, over the picture. At each place it multiplies what
# lies under the window with the kernel, number by number, and adds it all up. What comes out is a
# **feature map**, and each number in it is a **unit**.


# %%
def convolve(image, kernel):
    size = len(kernel)
    rows, columns = (side - size + 1 for side in image.shape)
    out = torch.zeros(rows, columns)
    for row in range(rows):
        for column in range(columns):
            window = image[row : row + size, column : column + size]
            out[row, column] = (window * kernel).sum()
    return out


# %% [markdown]
# The kernel below gives a large number where a dark pixel on the left meets a bright one on the right: it
# finds left edges. We take the grey levels as whole numbers from 0 to 255, so that no rounding comes in and
# "equal" can mean equal. (What deep learning calls convolution is cross-correlation in mathematics, where a
# convolution flips the kernel first. The kernel is learned, so it makes no difference.)

# %%
# NBVAL_CHECK_OUTPUT
from course_utils.digits import MEAN, STD

grey = ((digit * STD + MEAN) * 255).round()
kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
by_hand = convolve(grey[0, 0], kernel)
by_torch = F.conv2d(grey, kernel.reshape(1, 1, 3, 3))[0, 0]
print("out:", list(by_hand.shape), " equal to F.conv2d:", torch.equal(by_hand, by_torch))

# %%
edges = {"left edges": kernel, "top edges": kernel.T}
found = [F.conv2d(grey, k.reshape(1, 1, 3, 3))[0, 0] for k in edges.values()]
plots.signed_grid(torch.stack(found), titles=list(edges), label="convolution")

# %% [markdown]
# Blue is where the kernel fits, red where its opposite does. One kernel, the same nine numbers at every
# place: that is the idea of a convolutional layer. It has several kernels, makes a feature map with each,
# and learns them.

# %% [markdown]
# ### Stride, padding, and the size of what comes out
#
# **Padding** P puts zeros around the picture, **stride** S moves the window S pixels at a time. A side of
# W pixels under a kernel of F pixels becomes (W - F + 2P) / S + 1. Check it against torch:


# %%
# NBVAL_CHECK_OUTPUT
def output_size(width, kernel, padding=0, stride=1):
    return (width - kernel + 2 * padding) / stride + 1


for width, kernel_size, padding, stride in [
    (32, 5, 0, 1),
    (32, 5, 2, 1),
    (32, 2, 0, 2),
    (7, 3, 0, 2),
]:
    layer = nn.Conv2d(1, 1, kernel_size, stride=stride, padding=padding)
    real = layer(torch.zeros(1, 1, width, width)).shape[-1]
    formula = output_size(width, kernel_size, padding, stride)
    print(f"W={width:2} F={kernel_size} P={padding} S={stride}: formula {formula}, torch {real}")

# %% [markdown]
# And if it does not come out even? A window of 3 that moves by 2 over 10 pixels gives 4.5.

# %% [markdown] tags=["question"]
# How wide is the result?
#
# - There is none: torch raises an error, as the sizes do not fit
#   if: "Error" in text
#   Torch is not that strict. Some frameworks pad by themselves, torch does neither.
# + 4
#   if: side == 4
#   It rounds down, and says nothing. So the window never reaches the last column.
# - 5, with a column of zeros added
#   if: side == 5
#   Only if you ask for it, by `padding`.
#
# read: formula: 4.5 +torch: (?P<side>\d+)

# %%
# NBVAL_CHECK_OUTPUT
picture = torch.arange(100.0).reshape(1, 1, 10, 10)
changed = picture.clone()
changed[..., -1] = -1000  # the last column
layer = nn.Conv2d(1, 1, kernel_size=3, stride=2)
print("formula:", output_size(10, 3, 0, 2), " torch:", layer(picture).shape[-1])
print("the last column makes no difference:", torch.equal(layer(picture), layer(changed)))

# %% [markdown]
# Torch rounds down and says nothing: the last column of the picture is never looked at. Change it, and nothing
# happens.
#
# ### How far a unit sees
#
# The **receptive field** of a unit is the part of the input that can change it. It grows with each layer:
# by (F - 1) times the product of all strides before. For LeNet's layers:

# %% [markdown] tags=["question"]
# How many pixels of the picture, from left to right, can change a unit of the second convolution (`conv 2`)?
#
# - 5, as its kernel is 5 wide
#   if: field == 5
#   It sees 5 units of the layer before. Each of those sees several pixels.
# - 10, twice 5
#   if: field == 10
#   Windows overlap, so widths do not simply add; and between the two, pooling has made everything smaller by half.
# + 14
#   if: field == 14
#   6 after the first pooling; then 4 units more, each 2 pixels further: 6 + 4 times 2.
#
# read: 'conv 2': (?P<field>\d+)

# %%
# NBVAL_CHECK_OUTPUT
layers = {"conv 1": (5, 1), "pool 1": (2, 2), "conv 2": (5, 1), "pool 2": (2, 2)}  # kernel, stride
field, jump = 1, 1
fields = {}
for name, (kernel_size, stride) in layers.items():
    field += (kernel_size - 1) * jump
    jump *= stride
    fields[name] = field
print(fields)

# %% [markdown]
# The same, seen by experiment: the gradient of one unit in the middle is non-zero exactly at the pixels
# that it sees. (Average pooling stands in for max pooling here: it has the same windows, but lets the
# gradient through to all pixels in them.)

# %%
x = torch.zeros(1, 1, 32, 32, requires_grad=True)
out, seen = x, {}
for name in layers:
    pool = name.startswith("pool")
    out = F.avg_pool2d(out, 2) if pool else F.conv2d(out, torch.ones(1, 1, 5, 5))
    middle = out.shape[-1] // 2
    (gradient,) = torch.autograd.grad(out[0, 0, middle, middle], x, retain_graph=True)
    seen[name] = gradient[0] != 0
    print(f"{name}: {seen[name].any(1).sum().item()} pixels wide")
plots.image_rows({"one unit sees": torch.cat(list(seen.values()))}, titles=list(seen))

# %% [markdown]
# ### ReLU beside GELU
#
# Without a bend between them, two convolutions would be one. ReLU cuts negative values off; **GELU**, in
# many newer networks, does so smoothly. See the gradients at -0.5: a unit that is negative learns
# nothing through ReLU, but something through GELU. (Our LeNet keeps ReLU.)

# %%
x = torch.linspace(-3, 3, 61)
plots.lines(
    x.tolist(), {"ReLU": F.relu(x).tolist(), "GELU": F.gelu(x).tolist()}, x="input", y="output"
)

# %%
# NBVAL_CHECK_OUTPUT
for bend in (F.relu, F.gelu):
    x = torch.tensor([-0.5, 0.5], requires_grad=True)
    (slope,) = torch.autograd.grad(bend(x).sum(), x)
    print(f"{bend.__name__}: slope at -0.5 {slope[0].item():.3f}, at 0.5 {slope[1].item():.3f}")

# %% [markdown]
# ### Pooling
#
# **Pooling** makes a picture smaller: of each 2 x 2 block it keeps the largest value (max pooling) or
# the mean (average pooling). There is nothing to learn in it.

# %%
# NBVAL_CHECK_OUTPUT
block = torch.tensor([[1.0, 2, 0, 0], [3, 4, 0, 8], [5, 5, 1, 1], [5, 5, 1, 1]])
print("max:\n", F.max_pool2d(block[None], 2)[0])
print("average:\n", F.avg_pool2d(block[None], 2)[0])

# %%
halved = {"max pooled": F.max_pool2d(digit, 2), "average pooled": F.avg_pool2d(digit, 2)}
plots.pictures({"32 x 32": digit, **halved})

# %% [markdown]
# ### Small shifts
#
# A digit that is written one pixel further right is the same digit. How much do the numbers change when
# a picture moves by a pixel? We compare 500 digits with their shifted copies, as they are and after
# making them smaller: by taking every fourth pixel, or by pooling twice, as LeNet does.


# %%
def change(shrink, pictures):
    still, moved = shrink(pictures), shrink(pictures.roll(1, dims=-1))
    return ((moved - still).norm() / (still - still.mean()).norm()).item()


many = datamodule.test.images[:500]
changes = {
    "the pixels themselves": change(lambda x: x, many),
    "taking every fourth pixel": change(lambda x: x[..., ::4, ::4], many),
    "max pooling, twice": change(lambda x: F.max_pool2d(F.max_pool2d(x, 2), 2), many),
    "average pooling, twice": change(lambda x: F.avg_pool2d(F.avg_pool2d(x, 2), 2), many),
}
plots.bars(changes, x="relative change after a shift by one pixel")

# %% [markdown]
# Skipping pixels does not help. Pooling takes a good part of the change away, but not all of it: nothing
# becomes *invariant*, that is, unchanged by the shift. And where the picture moves by exactly the stride,
# the result just moves along:

# %%
# NBVAL_CHECK_OUTPUT
shifted_first = F.max_pool2d(many.roll(2, dims=-1), 2)
pooled_first = F.max_pool2d(many, 2).roll(1, dims=-1)
print("two pixels before pooling are one pixel after it:", torch.equal(shifted_first, pooled_first))

# %% [markdown]
# ### ReLU and pooling: which first?
#
# Does ReLU come before the pooling or after it? Both are written.

# %% [markdown] tags=["question"]
# For which kind of pooling does it make no difference?
#
# + For max pooling only
#   if: highest == "True" and mean == "False"
#   ReLU never changes which of four values is the largest. But a mean of values cut off at zero is another one than a mean cut off at zero.
# - For both: neither learns anything, so they can change places
#   if: highest == "True" and mean == "True"
#   Take -1 and 3. The mean is 1; with ReLU first it is 1.5.
# - For neither: the order of two different operations always matters
#   if: highest == "False"
#   Often it does. Both of these keep larger numbers larger, and taking the largest does not mind that.
#
# read: max_pool2d: (?P<highest>\w+)
# read: avg_pool2d: (?P<mean>\w+)

# %%
# NBVAL_CHECK_OUTPUT
x = torch.randn(64, 6, 28, 28, generator=torch.Generator().manual_seed(0))
for pool in (F.max_pool2d, F.avg_pool2d):
    print(f"{pool.__name__}: {torch.equal(F.relu(pool(x, 2)), pool(F.relu(x), 2))}")

# %% [markdown]
# For max pooling it is the same: ReLU never changes which value is the largest. For average pooling it is
# not. Pooling first leaves ReLU only a quarter of the values to look at. The first exercise asks whether the
# training is the same, too.

# %% [markdown]
# ### The pattern
#
# Many networks, from LeNet to VGG (2014), follow one pattern, with fully connected layers (FC) at the end.
# `*N` means N times, and `?` perhaps:
#
# ```
# INPUT -> [[CONV -> RELU]*N -> POOL?]*M -> [FC -> RELU]*K -> FC
# ```
#
# LeNet is N = 1, M = 2, K = 2; VGG has larger numbers. Here it is as a function. `Lazy` layers find out how
# many inputs they get when the first batch comes, and are ordinary layers from then on.


# %%
def pattern(N, M, K, channels=8, hidden=32):
    layers = []
    for _ in range(M):
        for _ in range(N):
            layers += [nn.LazyConv2d(channels, kernel_size=3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
        channels *= 2
    layers += [nn.Flatten()]
    for _ in range(K):
        layers += [nn.LazyLinear(hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.LazyLinear(10))


# %%
# NBVAL_CHECK_OUTPUT
for numbers in ((1, 2, 2), (2, 3, 1)):
    network = pattern(*numbers)
    logits = network(torch.zeros(1, 1, 32, 32))
    names = [type(layer).__name__ for layer in network]
    print(*numbers, "->", " ".join(names), list(logits.shape))

# %% [markdown]
# ## 3. LeNet
#
# This is LeNet as it is written today. LeNet-5 of 1998 had tanh in place of ReLU, averages with trained
# factors in place of max pooling, and a second convolution in which each kernel saw only some of the maps.
# The sizes are the same.


# %%
class LeNet(nn.Module):
    def __init__(self, in_channels: int = 1, num_classes: int = 10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, num_classes),
        )
        self.features.to(memory_format=torch.channels_last)  # for speed: see section 4

    def forward(self, x):
        return self.classifier(self.features(x))


# %% [markdown]
# One picture through it, layer by layer. Compare the sides with the formula: 32 - 5 + 1 = 28, half of
# it is 14, 14 - 5 + 1 = 10, half of it 5. So 16 maps of 5 x 5 reach the classifier.

# %%
# NBVAL_CHECK_OUTPUT
model = LeNet()
x = digit
for layer in [*model.features, *model.classifier]:
    x = layer(x)
    print(f"{type(layer).__name__:10}{list(x.shape)}")

# %% [markdown]
# Count the parameters by hand, kernel by kernel: a kernel of the second convolution looks at all 6 maps, and
# each kernel and each unit has one bias.

# %%
# NBVAL_CHECK_OUTPUT
convolutions = 6 * (1 * 5 * 5 + 1) + 16 * (6 * 5 * 5 + 1)
connected = 120 * (16 * 5 * 5 + 1) + 84 * (120 + 1) + 10 * (84 + 1)
by_python = sum(parameter.numel() for parameter in model.parameters())
print(f"by hand {convolutions:,} + {connected:,} = {convolutions + connected:,}")
print(f"by Python {by_python:,}")

# %% [markdown]
# ### What fully connected layers cost
#
# Where do these parameters sit, and where is the work? Count the weights (without biases), and the
# multiplications for one picture. A convolution uses its few weights at every place of its map:

# %% [markdown] tags=["question"]
# Where are most of the weights, and where is most of the work?
#
# - Both in the convolutions: it is a convolutional network
#   if: heavy < 50 and work < 50
#   The two convolutions together have 2,550 weights. One kernel serves the whole picture.
# + The weights in the fully connected part, the work in the convolutions
#   if: heavy > 50 and work < 50
#   Few weights, used hundreds of times each; many weights, used once each.
# - Both in the fully connected part: each weight is one multiplication
#   if: heavy > 50 and work > 50
#   That is so in the fully connected part. In a convolution, each weight is used again at every place.
#
# read: fc +: +(?P<heavy>[\d.]+)% of the weights, +(?P<work>[\d.]+)% of the multiplications

# %%
# NBVAL_CHECK_OUTPUT
weights = {"conv 1": 6 * 1 * 25, "conv 2": 16 * 6 * 25, "fc": 400 * 120 + 120 * 84 + 84 * 10}
products = {"conv 1": 28 * 28 * 150, "conv 2": 10 * 10 * 2400, "fc": weights["fc"]}
for name, count in weights.items():
    share, work = count / sum(weights.values()), products[name] / sum(products.values())
    print(f"{name:6}: {share:5.1%} of the weights, {work:5.1%} of the multiplications")
print(f"{sum(products.values()):,} multiplications in all")

# %% [markdown]
# Nearly all weights sit in the fully connected part, and their number grows with the picture: see the first
# number below. That is why later networks drop it. **Global average pooling** takes the mean of each feature
# map, whatever its size; one small layer from 16 means to 10 classes follows, and its size stays.

# %%
# NBVAL_CHECK_OUTPUT
for side in (32, 224):
    features = model.features(torch.zeros(1, 1, side, side))
    first_layer = features.numel() * 120
    means = features.mean((2, 3))  # global average pooling
    print(
        f"{side} x {side}: maps {list(features.shape)}, first layer {first_layer:,} weights;",
        end=" ",
    )
    print(f"means {list(means.shape)}, then {means.numel() * 10} weights")

# %% [markdown]
# One step by hand, before the loop: ten logits a picture, a loss near ln 10 = 2.30 as nothing is
# learned yet, and a lower loss on the same batch after a step.

# %%
images, labels = next(iter(datamodule.train_dataloader()))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
loss = F.cross_entropy(model(images), labels)
optimizer.zero_grad()
loss.backward()
optimizer.step()
after = F.cross_entropy(model(images), labels)
print(f"loss before the step {loss.item():.4f}, after it {after.item():.4f}")

# %% [markdown]
# ## 4. The loop
#
# One epoch, as in lesson 1. One thing is better: the sums stay tensors until the end. `.item()` in each
# step would make a GPU wait for its answer, and tensors add up exactly as Lightning's averages do.


# %%
def train_epoch(model, loader, optimizer, device):
    model.train()
    total, count = torch.zeros(2, device=device)
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(y)
        count += len(y)
    return (total / count).item()


# %%
@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    total, correct, count = torch.zeros(3, device=device)
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        logits = model(x)
        loss = F.cross_entropy(logits, y)
        total += loss * len(y)
        correct += (logits.argmax(1) == y).sum()
        count += len(y)
    return (total / count).item(), (correct / count).item()


# %% [markdown]
# Now the part that grows in every real project. Which epoch was the best one? Keep a copy of its weights: a
# *copy*, as the weights themselves go on changing. And when is it enough? **Early stopping**: if the
# validation loss has not fallen below its best for four epochs (the *patience*), stop.

# %%
from copy import deepcopy
from math import inf, isfinite


def fit(model, optimizer, train_loader, val_loader, epochs, patience, device):
    history = {"train_loss": [], "val_loss": [], "val_acc": []}
    best_loss, best_epoch, waited = inf, 0, 0
    best_weights = deepcopy(model.state_dict())
    for epoch in range(epochs):
        train_loss = train_epoch(model, train_loader, optimizer, device)
        val_loss, val_acc = evaluate(model, val_loader, device)
        for name, value in zip(history, (train_loss, val_loss, val_acc)):
            history[name].append(value)
        losses = f"train loss {train_loss:.4f}, val loss {val_loss:.4f}"
        print(f"epoch {epoch + 1:2}: {losses}, val acc {val_acc:.2%}")
        if not isfinite(val_loss):
            print("the validation loss is no number any more: stop")
            break
        if val_loss < best_loss:
            best_loss, best_epoch, waited = val_loss, epoch + 1, 0
            best_weights = deepcopy(model.state_dict())
        else:
            waited += 1
            if waited >= patience:
                print(f"no better for {patience} epochs: stop")
                break
    return history, best_epoch, best_weights


# %% [markdown]
# ### One line for speed
#
# The kernels' numbers can lie in memory map by map, or place by place with all maps together:
# `channels_last`. It is the same network, but convolution and pooling find what they need closer
# together. That is what the last line of `LeNet.__init__` asks for. What is it worth here?

# %%
from course_utils.views import in_turn

few_batches = [batch for batch, _ in zip(datamodule.train_dataloader(), range(20))]


def steps_of(memory_format):
    model = LeNet().to(device, memory_format=memory_format)
    train_epoch(model, few_batches, torch.optim.Adam(model.parameters(), lr=2e-4), device)


in_turn(
    {
        "channels last": lambda: steps_of(torch.channels_last),
        "map by map": lambda: steps_of(torch.contiguous_format),
    },
    steps=20,
    rounds=5,
)

# %% [markdown]
# ### Run it
#
# Adam with a learning rate of 0.0002, batches of 64, at most 10 epochs. The trace is on, for the proof.


# %%
def start_raw(lr, datamodule, network=LeNet):
    L.seed_everything(42, verbose=False)
    model = network().to(device)
    datamodule.setup()
    loaders = datamodule.train_dataloader(), datamodule.val_dataloader()
    return model, torch.optim.Adam(model.parameters(), lr=lr), *loaders


EPOCHS, PATIENCE = 10, 4

model, optimizer, train_loader, val_loader = start_raw(2e-4, MNISTDataModule(pad=2))
with trace(model) as raw:
    history, best_epoch, best_weights = fit(
        model, optimizer, train_loader, val_loader, EPOCHS, PATIENCE, device
    )

# %% [markdown]
# For the test we go back to the best epoch's weights, then look at the test digits once:

# %% tags=["result"]
model.load_state_dict(best_weights)
raw_loss, raw_accuracy = evaluate(model, datamodule.test_dataloader(), device)
print(f"test accuracy: {raw_accuracy:.2%}")
print(f"best epoch:    {best_epoch}")

# %%
plots.curves({"training": history["train_loss"], "validation": history["val_loss"]}, y="loss")

# %% [markdown]
# ## 5. Which lines are the idea?
#
# Here is the loop where plumbing outweighs science. Look at the counts below the listing.

# %%
from course_utils.views import side_by_side

run = """
model = LeNet().to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
history, best_epoch, best_weights = fit(
    model, optimizer, train_loader, val_loader, EPOCHS, PATIENCE, device
)
model.load_state_dict(best_weights)
"""
loop = [train_epoch, evaluate, fit, run]
listing = side_by_side(loop)
listing

# %%
# NBVAL_CHECK_OUTPUT
counts = {job.name: lines for job, (lines, _) in listing.counts.items()}
idea = counts["model and loss"]
print(f"{idea} of {sum(counts.values())} lines are the idea")

# %% [markdown]
# ## 6. The refactor
#
# ### Move 1: the steps
#
# Four stages, four steps: training, validation, test, prediction. Each of the first three has its own
# torchmetrics accuracy, which counts right answers over all batches and is reset by Lightning at the end
# of each epoch. With one metric for all, training batches would count in the validation accuracy.

# %%
from torchmetrics.classification import MulticlassAccuracy


class LitLeNet(L.LightningModule):
    def __init__(self, in_channels: int = 1, num_classes: int = 10, lr: float = 2e-4):
        super().__init__()
        self.save_hyperparameters()
        self.example_input_array = torch.zeros(1, in_channels, 32, 32)  # for the summary
        self.model = LeNet(in_channels, num_classes)
        self.train_acc = MulticlassAccuracy(num_classes, average="micro")
        self.val_acc = MulticlassAccuracy(num_classes, average="micro")
        self.test_acc = MulticlassAccuracy(num_classes, average="micro")

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_idx):  # was: the body of train_epoch's loop
        return self._step(batch, "train", self.train_acc)

    def validation_step(self, batch, batch_idx):  # was: evaluate(model, val_loader)
        self._step(batch, "val", self.val_acc)

    def test_step(self, batch, batch_idx):  # was: evaluate(model, test_loader)
        self._step(batch, "test", self.test_acc)

    def predict_step(self, batch, batch_idx):
        x, _ = batch
        return self(x).argmax(1)

    def _step(self, batch, stage, accuracy):
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        accuracy(logits, y)
        self.log(f"{stage}_loss", loss, on_step=False, on_epoch=True)
        self.log(f"{stage}_acc", accuracy, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):  # was: optimizer = torch.optim.Adam(…)
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


# %% [markdown]
# ### The summary
#
# From `example_input_array` Lightning works out the shapes of every layer, in and out.

# %%
from lightning.pytorch.utilities.model_summary import ModelSummary

lit = LitLeNet()
summary = ModelSummary(lit, max_depth=-1)
print(summary)

# %% [markdown]
# Check it: the exact number of parameters, and the side of every convolution and pooling, computed by the
# formula and read off the summary. (FLOPs count additions too: twice the multiplications of section 3.)

# %%
# NBVAL_CHECK_OUTPUT
print(f"{summary.total_parameters:,} parameters")
sizes = dict(zip(summary.layer_names, summary.out_sizes))
side = 32
for number, layer in enumerate(lit.model.features):
    if not isinstance(layer, nn.ReLU):
        kernel_size, stride = (5, 1) if isinstance(layer, nn.Conv2d) else (2, 2)
        side = output_size(side, kernel_size, stride=stride)
        real = sizes[f"model.features.{number}"]
        print(f"{type(layer).__name__:10} formula {side:4}, summary {real}")

# %% [markdown]
# ### Move 2: two callbacks for the bookkeeping
#
# `ModelCheckpoint` keeps the best epoch, in a file. `EarlyStopping` counts the waiting. Both look at
# `val_loss`, the name under which `validation_step` logs it; a smaller value is better unless you say
# `mode="max"`. And both follow the rules of our loop: better means strictly smaller, and a loss that is no
# number any more ends the training.

# %%
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from course_utils.views import CourseProgress


def fit_with_lightning(lit, datamodule, epochs, patience):
    trainer = L.Trainer(
        accelerator=session.accelerator,  # was: device, and every .to(device)
        devices=1,
        max_epochs=epochs,  # was: for epoch in range(epochs)
        callbacks=[
            EarlyStopping("val_loss", patience=patience),  # was: waited, break
            ModelCheckpoint(monitor="val_loss"),  # was: best_loss, best_epoch, best_weights
            CourseProgress(),  # was: print
        ],
        logger=CSVLogger(written, name="lenet"),  # was: history
        log_every_n_steps=10,  # Lightning warns if an epoch has fewer batches; see section 7
        enable_model_summary=False,
    )
    trainer.fit(lit, datamodule=datamodule)
    return trainer


# %%
L.seed_everything(42, verbose=False)
lit = LitLeNet()
with trace(lit.model) as port:
    trainer = fit_with_lightning(lit, MNISTDataModule(pad=2), EPOCHS, PATIENCE)

# %% [markdown]
# What was printed is in the logger's file, too. We read the validation losses from it, unrounded, for the
# proof: one for each epoch. (`validate`, further down, will add a line of its own to the file. And the seconds in the table
# include the trace; section 8 measures without it.)

# %%
import csv
from pathlib import Path


def logged(trainer, name):
    with open(Path(trainer.logger.log_dir) / "metrics.csv", newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


port_losses = logged(trainer, "val_loss")[: trainer.current_epoch]
print("last validation loss, here:    ", port_losses[-1])
print("last validation loss, our loop:", history["val_loss"][-1])

# %% [markdown]
# ### Validate, test, predict
#
# Before they run anything, these load the weights that `ModelCheckpoint` kept: `ckpt_path="best"`. The
# weights stay in `lit` afterwards, as after our `load_state_dict(best_weights)`. `validate` gives the lowest
# validation loss of the table above; `test` is the look at the test digits; `predict` collects what
# `predict_step` returns.

# %%
data = MNISTDataModule(pad=2)
validated = trainer.validate(lit, datamodule=data, ckpt_path="best", verbose=False)[0]
tested = trainer.test(lit, datamodule=data, ckpt_path="best", verbose=False)[0]
predictions = torch.cat(trainer.predict(lit, datamodule=data, ckpt_path="best"))
print(f"validation loss {validated['val_loss']:.4f}, accuracy {validated['val_acc']:.2%}")
print(f"test loss {tested['test_loss']:.4f}, accuracy {tested['test_acc']:.2%}")
print("predictions:", list(predictions.shape), predictions[:10].tolist())

# %% [markdown]
# ### What the sanity check is for
#
# Before the first training batch, `fit` runs two validation batches. A mistake in `validation_step` then
# comes up at once, and not after an epoch of training. See at which step this one is found, with the check
# and without:


# %%
# NBVAL_CHECK_OUTPUT
class Typo(LitLeNet):
    def validation_step(self, batch, batch_idx):
        x, y = batch
        F.cross_entropy(self(x), y.float())  # labels must be whole numbers


quiet = dict(logger=False, enable_checkpointing=False, enable_model_summary=False)
hardware = dict(accelerator=session.accelerator, devices=1)
for checks in (2, 0):
    choices = dict(max_epochs=1, limit_train_batches=30, num_sanity_val_steps=checks)
    broken = L.Trainer(**hardware, **quiet, **choices, enable_progress_bar=False)
    try:
        broken.fit(Typo(), MNISTDataModule(pad=2))
    except RuntimeError:
        print(f"{checks} batches checked: found after {broken.global_step} training steps")

# %% [markdown]
# ### Who is called when
#
# A **hook** is a method that the Trainer calls at a certain moment, if you have written it. To see the
# order, this callback notes its own hooks, and wraps those of module and data module so that they are
# noted too.

# %%
from functools import wraps

STEPS = ["configure_optimizers", "optimizer_step", "training_step", "validation_step"]
LOADERS = ["prepare_data", "setup", "train_dataloader", "val_dataloader", "teardown"]
MOMENTS = [
    "on_fit_start",
    "on_sanity_check_start",
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_end",
    "on_train_epoch_end",
    "on_train_end",
    "on_fit_end",
]


# %%
class NoteCalls(L.Callback):
    def __init__(self, lit, datamodule):
        self.calls = []
        watched = {"data module": (datamodule, LOADERS), "module": (lit, STEPS)}
        for owner, (thing, names) in {**watched, "callback": (self, MOMENTS)}.items():
            for name in names:
                self.note(owner, thing, name)

    def note(self, owner, thing, name):
        hook = getattr(thing, name)

        @wraps(hook)
        def noted(*args, **kwargs):
            self.calls.append((owner, name))
            return hook(*args, **kwargs)

        setattr(thing, name, noted)


# %% [markdown]
# One epoch of two batches, one validation batch, and one for the sanity check:

# %% [markdown] tags=["question"]
# For one training batch, which of these does the Trainer call first?
#
# - `training_step`, then the gradient, then `optimizer_step`: as in our loop
#   if: first == "training_step"
#   That is the order in which the work is *done*. Who calls whom is another matter.
# + `optimizer_step`
#   if: first == "optimizer_step"
#   The optimizer is given a function that runs `training_step` and `backward` when it asks. So an `optimizer_step` of your own starts before there is any loss.
# - `validation_step`, to know where it stands
#   if: first == "validation_step"
#   Validation comes once before training, as a check, and then after the batches of an epoch.
#
# read: on_train_batch_start\s+module\s+(?P<first>\w+)

# %%
watched, its_data = LitLeNet(), MNISTDataModule(pad=2)
notes = NoteCalls(watched, its_data)
choices = dict(max_epochs=1, limit_train_batches=2, limit_val_batches=1, num_sanity_val_steps=1)
short = L.Trainer(**hardware, **quiet, **choices, enable_progress_bar=False, callbacks=[notes])
short.fit(watched, its_data)
for owner, name in notes.calls:
    print(f"{owner:12}{name}")

# %%
plots.call_order(notes.calls)

# %% [markdown]
# Read it from top to bottom. The data module is asked first (`prepare_data`, `setup`), then comes
# `configure_optimizers`. A loader is built only when it is needed. The first `validation_step` is the
# sanity check. `training_step` comes after `optimizer_step` has begun: Lightning hands the optimizer a
# function that computes loss and gradient. And validation runs *before* `on_train_epoch_end`, so that early
# stopping and checkpoints, which act there, have this epoch's `val_loss`.

# %% [markdown]
# ## 7. The proof
#
# ### Every step
#
# Both runs are recorded: batches, gradients, weights after each step.

# %%
report = compare(raw, port)
report

# %% tags=["verdict"]
# NBVAL_CHECK_OUTPUT
report.assert_identical()
print(report.verdict)

# %% [markdown]
# ### Validation losses, and the best epoch
#
# Early stopping and checkpoints decide by validation losses: so these must be equal too, not just to four
# digits. Then the weights of the best epoch: our copy against Lightning's file.


# %%
def best_of(trainer):
    path = trainer.checkpoint_callback.best_model_path
    return torch.load(path, map_location=device, weights_only=True)


def same_weights(weights, checkpoint):
    theirs = checkpoint["state_dict"]
    return all(torch.equal(weights[name], theirs[f"model.{name}"]) for name in weights)


# %%
# NBVAL_CHECK_OUTPUT
checkpoint = best_of(trainer)
print("equal validation losses:", port_losses == history["val_loss"])
print("same best epoch:        ", checkpoint["epoch"] + 1 == best_epoch)
print("equal best weights:     ", same_weights(best_weights, checkpoint))

# %% [markdown]
# ### Where both stop
#
# Ten epochs were not enough for early stopping to act. So let us force it: a thousand training digits, 300
# to validate, and a large learning rate, up to 40 epochs. Such a network soon learns its digits by heart.

# %%
from torch.utils.data import Subset


class FewDigits(MNISTDataModule):
    def setup(self, stage=None):
        super().setup(stage)
        self.train = Subset(self.train, range(1000))
        self.val = Subset(self.val, range(300))


model, optimizer, *loaders = start_raw(5e-3, FewDigits(pad=2))
with trace(model) as raw_few:
    few_history, few_best, few_weights = fit(model, optimizer, *loaders, 40, PATIENCE, device)

# %%
L.seed_everything(42, verbose=False)
few_lit = LitLeNet(lr=5e-3)
with trace(few_lit.model) as port_few:
    few_trainer = fit_with_lightning(few_lit, FewDigits(pad=2), 40, PATIENCE)

# %% [markdown]
# The training loss goes on falling, the validation loss has turned. Both loops must notice at the same
# epoch, and go back to the same weights:

# %%
plots.curves(
    {"training": few_history["train_loss"], "validation": few_history["val_loss"]}, y="loss"
)

# %%
raw_stop, lit_stop = len(few_history["val_loss"]), len(logged(few_trainer, "val_loss"))
few_checkpoint = best_of(few_trainer)
print(f"the loop stopped after epoch {raw_stop}, Lightning after epoch {lit_stop}")
print(f"best epoch: {few_best} in the loop, {few_checkpoint['epoch'] + 1} in Lightning")

# %% tags=["verdict"]
# NBVAL_CHECK_OUTPUT
report = compare(raw_few, port_few)
report.assert_identical()
assert raw_stop == lit_stop < 40
assert few_history["val_loss"] == logged(few_trainer, "val_loss")
assert same_weights(few_weights, few_checkpoint)
print(report.verdict)

# %% [markdown]
# A proof has to be able to fail. The famous mistake with best weights is to forget the copy: without
# `deepcopy`, `state_dict()` holds the weights that go on changing, so that "the best" is always the last.

# %%
# NBVAL_CHECK_OUTPUT
not_a_copy = model.state_dict()  # what best_weights would be without deepcopy
print("equal to the best weights:", same_weights(not_a_copy, few_checkpoint))

# %% [markdown]
# ## 8. What you gained, and what it cost
#
# Left our loop, right the port. Early stopping and best-epoch keeping are two lines now, and have names.

# %%
side_by_side(loop, [LitLeNet, fit_with_lightning])

# %% [markdown]
# And the price, on the same steps in turn. On a CPU, a step of LeNet takes several times as long as one of
# the MLP, so that the Trainer's price is a smaller part of it: compare the ratios with those of lesson 1.
# (Some of it is `train_acc`, which our loop does not compute.)


# %%
def raw_loop(batches):
    model = LeNet().to(device)
    train_epoch(model, batches, torch.optim.Adam(model.parameters(), lr=2e-4), device)


def barebones(batches):
    L.Trainer(**hardware, max_epochs=1, barebones=True).fit(LitLeNet(), batches)


def lesson_trainer(batches):
    trainer = L.Trainer(**hardware, **quiet, max_epochs=1, callbacks=[CourseProgress()])
    trainer.fit(LitLeNet(), batches)


# %%
from course_utils.views import cost

loops = {"raw loop": raw_loop, "Trainer(barebones=True)": barebones, "a Trainer": lesson_trainer}
cost(loops, loader=train_loader, steps=30, rounds=5)

# %% [markdown]
# ## 9. Faster to a better network
#
# The learning rate need not stay the same. The **one-cycle** schedule lets it rise to a peak and then fall
# to nearly zero, in one sweep over all steps; the Trainer knows how many those will be. The schedule moves
# after every batch, and that has to be said: `"interval": "step"`. (The default is once an epoch,
# which would leave the rate near its start.)


# %%
class OneCycleLeNet(LitLeNet):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.hparams.lr,  # now the peak
            total_steps=self.trainer.estimated_stepping_batches,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


# %%
L.seed_everything(42, verbose=False)
quick = OneCycleLeNet(lr=4e-3)
with trace(quick.model) as quick_run:
    quick_trainer = fit_with_lightning(quick, MNISTDataModule(pad=2), epochs=3, patience=PATIENCE)

# %% [markdown]
# A trace knows the learning rate of every step, so we can look at it:

# %%
rates = [step.learning_rates[0] for step in quick_run.steps]
plots.lines(range(1, len(rates) + 1), {"one cycle": rates}, x="optimizer step", y="learning rate")

# %% [markdown]
# Which of the two networks is better? Validation decides, then comes one look at the test digits:

# %%
best_val_acc = max(logged(quick_trainer, "val_acc"))
quick_result = quick_trainer.test(quick, datamodule=data, ckpt_path="best", verbose=False)[0]
print(f"fixed 2e-4,      10 epochs: val {validated['val_acc']:.2%}, test {tested['test_acc']:.2%}")
print(f"one cycle, 4e-3,  3 epochs: val {best_val_acc:.2%}, test {quick_result['test_acc']:.2%}")

# %% [markdown]
# Better in less than a third of the epochs. Two things have changed: the rate is up to twenty times as
# high, and it has a schedule. To see how much each of them does, train `LitLeNet(lr=4e-3)` for three epochs.
# The code for it was one method; no loop was touched.

# %% [markdown]
# ## 10. The results as pictures
#
# From here on with the better network. First the six kernels of the first convolution. Nobody designed
# them. Some fit strokes of one direction or the edges of strokes; compare them with the edge kernels of
# section 2.

# %%
network = quick.model.to("cpu").eval()
plots.signed_grid(network.features[0].weight[:, 0], titles=[f"kernel {n}" for n in range(6)])

# %% [markdown]
# One digit on its way through the layers. Each small picture is a feature map: where, and how strongly, one
# kernel found what it looks for. They get smaller and fewer details remain; at the end 16 maps of 5 x 5 go
# to the classifier. (Of the second convolution the first eight are shown, each scaled by itself.)

# %%
maps, x = {"input": digit}, digit
with torch.no_grad():
    for number, layer in enumerate(network.features):
        x = layer(x)
        if not isinstance(layer, nn.ReLU):
            kind = "convolution" if isinstance(layer, nn.Conv2d) else "pooling"
            maps[f"{kind} {number // 3 + 1}"] = x[0, :8, None]
plots.image_rows(maps, each=True)

# %% [markdown]
# What is taken for what? The darkest fields are the pairs that are still hard. Are 4 and 9 among them, as
# in lesson 1?

# %%
from torchmetrics.functional.classification import multiclass_confusion_matrix

test_digits = datamodule.test
with torch.no_grad():
    logits = torch.cat([network(batch) for batch in test_digits.images.split(1000)])
guesses = logits.argmax(1)
plots.confusion_matrix(multiclass_confusion_matrix(guesses, test_digits.labels, num_classes=10))

# %%
plots.confident_mistakes(test_digits.images, test_digits.labels, logits)

# %% [markdown]
# Look at them one by one: which of these would you have read as their label says?
#
# Last, something to keep: ten test digits as picture files, with the prediction in the name.

# %%
from torchvision.utils import save_image

folder = runs_folder("lenet_digits")
for old in folder.glob("digit_*.png"):
    old.unlink()  # from an earlier run
for number in range(10):
    name = f"digit_{number}_says_{guesses[number]}.png"
    save_image(test_digits.images[number] * STD + MEAN, folder / name)
    print(name)

# %% [markdown]
# Are they what they should be? Read back from the disk, the digits look as before, and each stands under
# the prediction in its file's name.

# %%
import matplotlib.pyplot as plt

files = [folder / f"digit_{number}_says_{guesses[number]}.png" for number in range(10)]
read_back = torch.stack([torch.tensor(plt.imread(file))[..., 0] for file in files])
plots.digit_grid(read_back, titles=[file.stem[-6:].replace("_", " ") for file in files])

# %% [markdown]
# ## Recap
#
# 1. A convolution is one small kernel at every place of the picture; sizes follow
#    (W - F + 2P) / S + 1, and what does not fit is silently cut off.
# 2. Few weights, many multiplications in the convolutions; the other way round in the fully connected
#    layers.
# 3. Best-epoch keeping and early stopping by hand are many lines of bookkeeping, with one trap (the
#    forgotten copy). `ModelCheckpoint` and `EarlyStopping` are two lines.
# 4. `fit`, `validate`, `test` and `predict` call the steps of the module; `ckpt_path="best"` takes the
#    weights that were kept.
# 5. Every step, every validation loss, the epoch of the stop and the best weights are equal.
#
# ## Common mistakes
#
# - **Best weights without a copy**: `model.state_dict()` keeps changing with the model.
# - **Testing the last epoch** while you report the best: `trainer.test(lit)` takes the weights as they
#   are, `trainer.test(lit, ckpt_path="best")` those that were kept.
# - **Stopping by the test digits**: whoever picks the epoch by them has trained on them. That is what
#   validation is for.
# - **One torchmetrics object for several stages**: validation comes before the training epoch ends, so
#   it would count the training batches too, and reset them.
# - **`EarlyStopping("val_acc")` without `mode="max"`**: it takes the lowest accuracy for the best one,
#   and stops while the accuracy rises.
# - **A picture size that does not fit**: check sizes with the formula, or with the summary.
#
# ## Exercises
#
# Five exercises that check themselves, up to a port, two faults to mend and a network for any size:
# [exercises for lesson 3](exercises/03_lenet.ipynb).
#
# ## Read on
#
# - [Trainer hooks](https://lightning.ai/docs/pytorch/stable/common/lightning_module.html#hooks) and
#   [early stopping](https://lightning.ai/docs/pytorch/stable/common/early_stopping.html) in Lightning's
#   documentation.
# - LeCun, Bottou, Bengio and Haffner (1998), [Gradient-based learning applied to document
#   recognition](http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf): LeNet-5.
# - Dumoulin and Visin (2016), [A guide to convolution arithmetic for deep
#   learning](https://arxiv.org/abs/1603.07285): sizes, in pictures.
# - Smith and Topin (2018), [Super-convergence](https://arxiv.org/abs/1708.07120): the one-cycle schedule.
