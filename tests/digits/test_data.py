"""The digits as a dataset and as a LightningDataModule, on the bundled sample."""

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    random_split,
)
from torchvision import datasets, transforms

from course_utils.digits import data, mnist
from course_utils.digits.data import (
    Batch,
    DigitImages,
    MNISTDataModule,
    find_mnist,
    keep_batch,
    seeded,
)

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


@pytest.fixture(autouse=True)
def on_sample(fresh, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "sample")


@pytest.fixture
def digits():
    return DigitImages(find_mnist().root, train=False)


def as_torchvision(train: bool, steps: list) -> tuple[torch.Tensor, torch.Tensor]:
    transform = transforms.Compose(
        [*steps, transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    )
    pairs = datasets.MNIST(find_mnist().root, train=train, transform=transform)
    images, labels = zip(*(pairs[i] for i in range(len(pairs))), strict=True)
    return torch.stack(images), torch.tensor(labels)


def same(batches, others) -> bool:
    batches, others = list(batches), list(others)
    return len(batches) == len(others) and all(
        torch.equal(x, u) and torch.equal(y, v)
        for (x, y), (u, v) in zip(batches, others, strict=True)
    )


@pytest.mark.parametrize(("train", "count"), [(True, 4000), (False, 1000)])
def test_values_are_those_of_torchvision_bit_for_bit(train, count):
    digits = DigitImages(find_mnist().root, train=train)
    images, labels = as_torchvision(train, [])
    assert len(digits) == count
    assert digits.images.shape == (count, 1, 28, 28)
    assert digits.images.dtype == torch.float32
    assert digits.labels.shape == (count,)
    assert digits.labels.dtype == torch.int64
    assert torch.equal(digits.images, images)
    assert torch.equal(digits.labels, labels)


def test_padding_is_that_of_torchvision_bit_for_bit():
    digits = DigitImages(find_mnist().root, train=False, pad=2)
    images, labels = as_torchvision(False, [transforms.Pad(2)])
    assert digits.images.shape == (1000, 1, 32, 32)
    assert torch.equal(digits.images, images)
    assert torch.equal(digits.labels, labels)


def test_mean_and_deviation_are_near_0_and_1():
    images = DigitImages(find_mnist().root).images
    assert images.mean().abs() < 0.05
    assert (images.std() - 1).abs() < 0.05


def test_missing_files_are_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="not found"):
        DigitImages(tmp_path / "nothing")


def test_one_by_one_and_whole_batches_agree(digits):
    indices = [3, 999, 3, 0]
    batch = digits.__getitems__(indices)
    assert isinstance(batch, Batch)
    assert len(batch) == 4
    assert batch.images.shape == (4, 1, 28, 28)
    assert batch.labels.shape == (4,)
    for (image, label), index in zip(batch, indices, strict=True):
        assert torch.equal(image, digits[index][0])
        assert torch.equal(label, digits[index][1])
        assert image.shape == (1, 28, 28)
        assert label.shape == ()
    with pytest.raises(IndexError):
        batch[4]


@pytest.mark.parametrize("batch_size", [1, 2, 64])
@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_whole_batches(digits, batch_size, workers):
    few = Subset(digits, range(0, 200))
    loader = DataLoader(few, batch_size, num_workers=workers, collate_fn=keep_batch)
    images = torch.cat([x for x, _ in loader])
    labels = torch.cat([y for _, y in loader])
    assert len(loader) == -(-200 // batch_size)
    assert torch.equal(images, digits.images[:200])
    assert torch.equal(labels, digits.labels[:200])


@pytest.mark.parametrize("batch_size", [1, 2, 64])
@pytest.mark.parametrize("workers", [0, 2])
def test_forgotten_collate_fn_gives_the_same_batches(digits, batch_size, workers):
    few = Subset(digits, range(0, 200))
    kept = DataLoader(few, batch_size, collate_fn=keep_batch)
    forgotten = DataLoader(few, batch_size, num_workers=workers)
    assert same(kept, forgotten)


def test_own_collate_fn_gets_a_list_of_pairs(digits):
    loader = DataLoader(digits, 8, collate_fn=lambda pairs: [int(label) for _, label in pairs])
    assert next(iter(loader)) == digits.labels[:8].tolist()


def test_every_sampler_works(digits):
    for sampler in (
        RandomSampler(digits, generator=seeded(1)),
        SubsetRandomSampler(range(0, 1000, 3), generator=seeded(1)),
        WeightedRandomSampler(torch.ones(1000), 300, generator=seeded(1)),
        SequentialSampler(digits),
    ):
        loader = DataLoader(digits, 64, sampler=sampler, collate_fn=keep_batch)
        images, labels = next(iter(loader))
        assert images.shape == (64, 1, 28, 28)
        assert labels.shape == (64,)
        assert sum(len(y) for _, y in loader) == len(sampler)


def test_batch_samplers_of_both_kinds_work(digits):
    batches = BatchSampler(SequentialSampler(digits), 64, drop_last=True)
    usual = DataLoader(digits, batch_sampler=batches, collate_fn=keep_batch)
    # The other way that torch documents: one "item" is a batch, and nothing is collated.
    whole = DataLoader(digits, sampler=batches, batch_size=None, collate_fn=keep_batch)
    plain = DataLoader(digits, sampler=batches, batch_size=None)
    assert len(usual) == 15
    assert torch.equal(next(iter(usual))[0], digits.images[:64])
    assert same(usual, whole)
    assert same(usual, plain)


def test_torch_wrappers_around_the_dataset_work(digits):
    left, right = random_split(digits, [900, 100], generator=seeded(0))
    assert same(
        DataLoader(right, 64, collate_fn=keep_batch),
        [
            (digits.images[right.indices[:64]], digits.labels[right.indices[:64]]),
            (digits.images[right.indices[64:]], digits.labels[right.indices[64:]]),
        ],
    )
    assert not set(left.indices) & set(right.indices)
    # These two know nothing of whole batches: they hand keep_batch a list of pairs.
    joined = next(iter(DataLoader(ConcatDataset([digits, digits]), 2, collate_fn=keep_batch)))
    assert torch.equal(joined[0], digits.images[:2])
    (images, labels), again = next(iter(DataLoader(StackDataset(digits, digits.labels), 2)))
    assert torch.equal(images, digits.images[:2])
    assert torch.equal(labels, again)


@pytest.mark.parametrize("device", DEVICES)
def test_batches_come_from_the_device_that_holds_the_digits(digits, device):
    expected = digits.images[:64].clone()
    assert digits.to(device) is digits
    few = Subset(digits, range(0, 128))
    images, labels = next(iter(DataLoader(few, 64, collate_fn=keep_batch)))
    assert images.device.type == labels.device.type == device
    assert torch.equal(images.cpu(), expected)


def test_prepare_data_sets_nothing():
    module = MNISTDataModule()
    before = dict(vars(module))
    module.prepare_data()
    assert vars(module) == before


def test_split_of_the_sample():
    module = MNISTDataModule()
    module.setup()
    assert [len(part) for part in (module.train, module.val, module.test)] == [3667, 333, 1000]
    assert sorted(module.train.indices + module.val.indices) == list(range(4000))
    assert len(module.test.images) == 1000


def test_split_of_full_mnist_has_the_same_proportion(monkeypatch):
    class Many(DigitImages):
        def __init__(self, root, train=True, pad=0):
            count = 60_000 if train else 10_000
            self.images = torch.zeros(1).expand(count, 1, 1, 1)
            self.labels = torch.zeros(1, dtype=torch.int64).expand(count)

    monkeypatch.setattr(data, "DigitImages", Many)
    module = MNISTDataModule()
    module.setup("fit")
    assert [len(part) for part in (module.train, module.val, module.test)] == [55000, 5000, 10000]


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict", None])
def test_every_stage_has_its_loaders(stage):
    module = MNISTDataModule(batch_size=64)
    module.setup(stage)
    for loader, digits in (
        (module.train_dataloader(), 3667),
        (module.val_dataloader(), 333),
        (module.test_dataloader(), 1000),
        (module.predict_dataloader(), 1000),
    ):
        images, labels = next(iter(loader))
        assert images.shape == (64, 1, 28, 28)
        assert images.dtype == torch.float32
        assert labels.shape == (64,)
        assert labels.dtype == torch.int64
        assert len(loader.dataset) == digits


def test_padding_reaches_the_batches():
    module = MNISTDataModule(pad=2)
    module.setup("fit")
    assert next(iter(module.train_dataloader()))[0].shape == (64, 1, 32, 32)
    assert next(iter(module.test_dataloader()))[0].shape == (64, 1, 32, 32)


def set_up(seed: int) -> MNISTDataModule:
    module = MNISTDataModule(seed=seed)
    module.setup("fit")
    return module


def test_same_seed_gives_the_same_batches_whatever_the_global_generator_does():
    torch.manual_seed(1)
    first = list(set_up(7).train_dataloader())
    torch.manual_seed(2)
    torch.rand(3)
    assert same(first, set_up(7).train_dataloader())
    assert not same(first, set_up(8).train_dataloader())


def test_each_epoch_is_shuffled_anew():
    loader = set_up(7).train_dataloader()
    assert not same(loader, loader)


def test_a_loader_does_not_shift_another():
    alone = list(set_up(7).train_dataloader())
    module = set_up(7)
    train, val = module.train_dataloader(), module.val_dataloader()
    list(val)
    assert same(val, val)
    assert same(alone, train)


def test_loaders_leave_the_global_generator_alone():
    module = set_up(7)
    before = torch.get_rng_state()
    list(module.train_dataloader())
    list(module.val_dataloader())
    set_up(7)
    assert torch.equal(before, torch.get_rng_state())


class Tiny(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        self.seen = []

    def training_step(self, batch):
        images, labels = batch
        self.seen.append(("train", tuple(images.shape)))
        return nn.functional.cross_entropy(self.net(images), labels)

    def validation_step(self, batch):
        self.seen.append(("val", tuple(batch[0].shape)))

    def test_step(self, batch):
        self.seen.append(("test", tuple(batch[0].shape)))

    def predict_step(self, batch):
        return self.net(batch[0]).argmax(1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_trains_validates_tests_and_predicts(fresh):
    model, module = Tiny(), MNISTDataModule()
    trainer = L.Trainer(
        accelerator="cpu",
        default_root_dir=fresh,
        fast_dev_run=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=module)
    trainer.test(model, datamodule=module, verbose=False)
    (predicted,) = trainer.predict(model, datamodule=module)
    assert model.seen == [(stage, (64, 1, 28, 28)) for stage in ("train", "val", "test")]
    assert predicted.shape == (64,)


def test_the_module_decides_no_second_time(monkeypatch):
    known = find_mnist()
    monkeypatch.setattr(mnist, "_sample", lambda origin: pytest.fail("decided again"))
    module = MNISTDataModule()
    module.prepare_data()
    module.setup()
    assert find_mnist() is known


def test_each_epoch_has_an_order_of_its_own_and_asking_past_the_end_draws_nothing():
    dataset = range(6)
    exhausted, stopped = (data.ShuffleSampler(dataset, data.seeded(3)) for _ in range(2))
    first = list(exhausted)
    asked_for_six = list(zip(range(6), stopped, strict=False))
    assert first == [index for _, index in asked_for_six]
    assert sorted(first) == list(range(6))
    second = list(exhausted)
    assert second == list(stopped) and second != first
