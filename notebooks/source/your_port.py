# %% [markdown]
# # Your own port
#
# {{badge}}
#
# A notebook to fill in: your loop, your port, and whether they do the same. [Lesson 9](09_clinic.ipynb) tells the method. It runs as it is, with a small example in
# place of your code.

# %% tags=["setup"]
# {{setup}}

# %%
import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from course_utils.exercises import first_steps
from course_utils.parity import checklist, diagnose, trace
from course_utils.session import quieten

quieten()  # Lightning's advice on tiny runs
torch.set_num_threads(1)

# %% [markdown]
# ## 1. The network and the data
#
# Put yours here, or import them from your project. Few samples are enough: an epoch should take seconds, and its last batch should not be full.


# %%
class YourNet(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))


def your_loader(train=True):
    generator = torch.Generator().manual_seed(0 if train else 1)
    x = torch.randn(90, 8, generator=generator)
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), 16, shuffle=train, generator=generator)


# %% [markdown]
# ## 2. The loop
#
# A function without arguments: it seeds, builds network, loaders and optimizer, in this order, and trains. Return what it reports.


# %%
def by_hand():
    L.seed_everything(42, verbose=False)
    net, loader, val_loader = YourNet(), your_loader(), your_loader(train=False)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(2):
        net.train()
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        losses = [F.cross_entropy(net(x), y, reduction="sum") for x, y in val_loader]
    return {"val_loss": float(sum(losses)) / len(val_loader.dataset)}


# %% [markdown]
# ## 3. The port
#
# The same with Lightning, from the same seed, built in the same order.


# %%
class YourPort(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = YourNet()

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", F.cross_entropy(self.net(x), y), batch_size=len(y))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


# %%
quiet = dict(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
quiet |= dict(enable_progress_bar=False, enable_model_summary=False)


def with_lightning():
    L.seed_everything(42, verbose=False)
    lit, trainer = YourPort(), L.Trainer(max_epochs=2, **quiet)
    trainer.fit(lit, your_loader(), your_loader(train=False))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


# %% [markdown]
# ## 4. Can they be equal?
#
# Each run is begun twice and ended after three steps. A cross is a reason why they will differ, whatever the port does.

# %%
checklist(by_hand, with_lightning, model=YourNet)

# %% [markdown]
# ## 5. Are they?
#
# The first steps by eye, then the doctor. If the two differ, it makes each run once more to look closely.


# %%
def traced(train):
    with trace(YourNet) as record:
        train()
    return record


print(first_steps(traced(by_hand), traced(with_lightning)))

# %%
report = diagnose(by_hand, with_lightning, model=YourNet)
report

# %% [markdown]
# ## 6. And what they report?
#
# Equal weights do not make equal reports. Name what both of them return, and compare it.

# %%
said, ported = by_hand(), with_lightning()
for name in said.keys() & ported.keys():
    print(f"{name}: {said[name]:.6f} by hand, {ported[name]:.6f} with Lightning")

# %% [markdown]
# Identical, and still wrong? Learn ten samples by heart, keep data that nobody touched, know what a constant answer reaches: [lesson 9, section 3](09_clinic.ipynb).
# To keep the proof, put `report.assert_identical()` into a test.
