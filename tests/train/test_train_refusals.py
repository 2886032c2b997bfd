"""Every wrong option is one clear line and exit code 2, and leaves nothing behind."""

import os
import shlex
import struct
import sys
from pathlib import Path

import pytest
import torch
from train_runs import alter

DEEP = "[" * 5000 + "]" * 5000
BOMB = (
    "{a: &a [x, x, x, x, x, x, x, x, x], "
    + "".join(
        f"{name}: &{name} [{', '.join(['*' + before] * 9)}], "
        for before, name in zip("abcde", "bcdef", strict=True)
    )[:-2]
)
BOMB += "}"
LONG = "x" * 300
F = "fit --trainer.max_epochs 1 --trainer.limit_train_batches 2 "
S = F + "--model LitStyle --model.width 4 --data StylePictures --data.steps 1 --data.size 32 "

# What the line has to say, and the command. Grouped by what is wrong.
TRIES = [
    # data
    ("data.batch_size", F + "--data.batch_size 0"),
    ("data.batch_size", F + "--data.batch_size -3"),
    ("data.batch_size", F + "--data.batch_size 1.5"),
    ("data.batch_size", F + "--data.batch_size null"),
    ("data.batch_size", F + "--data.batch_size true"),
    ("data.pad", F + "--model LitLeNet --data.pad -20"),
    ("data.pad", F + "--model LitLeNet --data.pad 3"),
    ("data.pad", F + "--data.pad 2"),
    ("data.pad", F + "--data.pad -1"),
    ("data.seed", F + "--data.seed -1"),
    ("data.seed", F + "--data.seed 99999999999999999999"),
    ("NoSuchData", F + "--data NoSuchData"),
    ("torch.nn.Linear", F + "--data torch.nn.Linear"),
    ("bogus", F + "--data.bogus 3"),
    ("photographs", F + "--data StylePictures"),
    ("data.steps", S + "--data.steps 0"),
    ("size", S + "--data.size 50"),
    ("size", S + "--data.size 0"),
    ("size", S + "--data.size -4"),
    ("data.batch_size", S + "--data.batch_size 0"),
    ("data.seed", S + "--data.seed -1"),
    ("none.png", S + "--data.shown [none.png]"),
    ("digits", S + "--data ResumableMNIST"),
    # models
    ("model.hidden", F + "--model.hidden [-5]"),
    ("model.hidden", F + "--model.hidden [0]"),
    ("model.hidden", F + "--model.hidden 5"),
    ("model.hidden", F + "--model.hidden [1.5]"),
    ("model.hidden", F + "--model.hidden [a]"),
    ("model.hidden", F + "--model.hidden [99999999999]"),
    ("model.lr", F + "--model.lr -1"),
    ("model.lr", F + "--model.lr 0"),
    ("model.lr", F + "--model.lr .nan"),
    ("model.lr", F + "--model.lr .inf"),
    ("model.lr", F + "--model.lr 1e400"),
    ("model.lr", F + "--model.lr fast"),
    ("model.lr", F + "--model.lr null"),
    ("model.code_size", F + "--model LitAutoEncoder --model.code_size 0"),
    ("model.code_size", F + "--model LitAutoEncoder --model.code_size -3"),
    ("model.in_channels", F + "--model LitLeNet --model.in_channels 3"),
    ("model.in_channels", F + "--model LitLeNet --model.in_channels 0"),
    ("model.num_classes", F + "--model LitLeNet --model.num_classes 5"),
    ("model.num_classes", F + "--model LitLeNet --model.num_classes 0"),
    ("hidden", F + "--model LitLeNet --model.hidden [5]"),
    ("model.width", S + "--model.width 0"),
    ("model.width", S + "--model.width -4"),
    ("model.content_weight", S + "--model.content_weight -1"),
    ("model.smooth_weight", S + "--model.smooth_weight .nan"),
    ("none.png", S + "--model.style none.png"),
    ("nowhere.pt", S + "--model.loss_network nowhere.pt"),
    ("LitFoo", F + "--model LitFoo"),
    ("Linear", F + "--model torch.nn.Linear"),
    ("os.system", F + "--model os.system"),
    ("no_such_module", F + "--model no_such_module.Model"),
    ("model", F + "--model 5"),
    ("model", F + "--model [1,2]"),
    ("model", F + "--model="),
    # the Trainer
    ("trainer.devices", F + "--trainer.devices 0"),
    ("trainer.devices", F + "--trainer.devices -2"),
    ("one device", F + "--trainer.devices 2"),
    ("trainer.devices", F + "--trainer.devices x"),
    ("trainer.devices", F + "--trainer.devices [0,1]"),
    ("accelerator", F + "--trainer.accelerator tpu"),
    ("accelerator", F + "--trainer.accelerator cuda"),
    ("accelerator", F + "--trainer.accelerator gpu"),
    ("accelerator", F + "--trainer.accelerator nonsense"),
    ("trainer.num_nodes", F + "--trainer.num_nodes 0"),
    ("trainer.num_nodes", F + "--trainer.num_nodes 2"),
    ("strategy", F + "--trainer.strategy nonsense"),
    ("precision", F + "--trainer.precision 8"),
    ("trainer.max_epochs", F + "--trainer.max_epochs 0"),
    ("trainer.max_epochs", F + "--trainer.max_epochs -5"),
    ("trainer.max_epochs", F + "--trainer.max_epochs many"),
    ("trainer.max_epochs", F + "--trainer.max_epochs 1.5"),
    ("trainer.min_epochs", F + "--trainer.min_epochs -1"),
    ("trainer.max_steps", F + "--trainer.max_steps 0"),
    ("trainer.max_steps", F + "--trainer.max_steps -5"),
    ("trainer.max_time", F + "--trainer.max_time 0"),
    ("trainer.max_time", F + "--trainer.max_time 00:00:00:00"),
    ("trainer.max_time", F + "--trainer.max_time soon"),
    ("trainer.max_time", F + "--trainer.max_time '{minutes: -1}'"),
    ("trainer.limit_train_batches", F + "--trainer.limit_train_batches 0"),
    ("trainer.limit_train_batches", F + "--trainer.limit_train_batches -1"),
    ("trainer.limit_train_batches", F + "--trainer.limit_train_batches 1.5"),
    ("trainer.limit_val_batches", F + "--trainer.limit_val_batches 0"),
    ("trainer.limit_val_batches", F + "--trainer.limit_val_batches 0.0"),
    ("trainer.limit_test_batches", F + "--trainer.limit_test_batches 0"),
    (
        "trainer.limit_predict_batches",
        "predict --ckpt_path mlp.ckpt --trainer.limit_predict_batches 0",
    ),
    ("trainer.limit_test_batches", "test --ckpt_path mlp.ckpt --trainer.limit_test_batches -1"),
    ("trainer.overfit_batches", F + "--trainer.overfit_batches -1"),
    ("trainer.val_check_interval", F + "--trainer.val_check_interval 0"),
    ("trainer.val_check_interval", F + "--trainer.val_check_interval -1"),
    ("trainer.check_val_every_n_epoch", F + "--trainer.check_val_every_n_epoch 0"),
    ("trainer.check_val_every_n_epoch", F + "--trainer.check_val_every_n_epoch 9"),
    ("trainer.num_sanity_val_steps", F + "--trainer.num_sanity_val_steps -5"),
    ("trainer.log_every_n_steps", F + "--trainer.log_every_n_steps -1"),
    ("trainer.accumulate_grad_batches", F + "--trainer.accumulate_grad_batches 0"),
    ("trainer.gradient_clip_val", F + "--trainer.gradient_clip_val -1"),
    ("gradient_clip_algorithm", F + "--trainer.gradient_clip_algorithm foo"),
    ("trainer.deterministic", F + "--trainer.deterministic foo"),
    ("profiler", F + "--trainer.profiler foo"),
    (
        "trainer.reload_dataloaders_every_n_epochs",
        F + "--trainer.reload_dataloaders_every_n_epochs -1",
    ),
    ("trainer.enable_checkpointing", F + "--trainer.enable_checkpointing false"),
    ("trainer.barebones", F + "--trainer.barebones true"),
    ("trainer.callbacks", F + "--trainer.callbacks foo"),
    ("trainer.logger", F + "--trainer.logger foo"),
    ("trainer.max_epoch", "fit --trainer.max_epoch 3"),
    ("--trainer.bogus", "fit --trainer.bogus 3"),
    ("trainer", F + "--trainer 5"),
    # checkpoints
    ("none.ckpt", "test --ckpt_path none.ckpt"),
    ("a_file", "test --ckpt_path a_file"),
    ("earlier", "test --ckpt_path earlier"),
    ("empty.ckpt", "test --ckpt_path empty.ckpt"),
    ("torn.ckpt", "test --ckpt_path torn.ckpt"),
    ("best", "test --ckpt_path best"),
    ("state_dict", "test --ckpt_path stateless.ckpt"),
    ("shapes.ckpt", "test --ckpt_path shapes.ckpt"),
    ("names.ckpt", "test --ckpt_path names.ckpt"),
    ("stateint.ckpt", "test --ckpt_path stateint.ckpt"),
    ("number.ckpt", "test --ckpt_path number.ckpt"),
    ("intclass.ckpt", "test --ckpt_path intclass.ckpt"),
    ("--model", "test --ckpt_path evil.ckpt"),
    ("--model", "test --ckpt_path evildata.ckpt"),
    ("nested.ckpt", "test --ckpt_path nested.ckpt"),
    ("hparams.ckpt", "test --ckpt_path hparams.ckpt"),
    ("lr", "test --ckpt_path lrfast.ckpt"),
    ("model.hidden", "test --ckpt_path minus.ckpt"),
    ("surprise", "test --ckpt_path surprise.ckpt"),
    ("LitLeNet", "test --ckpt_path mlp.ckpt --model LitLeNet"),
    ("LitAutoEncoder", "predict --ckpt_path mlp.ckpt --model LitAutoEncoder"),
    ("LitStyle", "test --ckpt_path mlp.ckpt --model LitStyle"),
    ("slim.ckpt", F + "--ckpt_path slim.ckpt --out-dir resumed"),
    ("version.ckpt", F + "--ckpt_path version.ckpt --out-dir resumed"),
    ("code.ckpt", "test --ckpt_path code.ckpt"),
    ("trained model", "test"),
    ("trained model", "predict --out-dir new"),
    ("trained model", "validate"),
    ("photographs", "test --ckpt_path mlp.ckpt --data StylePictures"),
    ("bombed.ckpt", "test --ckpt_path bombed.ckpt"),
    ("texts.ckpt", "test --ckpt_path texts.ckpt"),
    # configurations
    ("none.yaml", "fit --config none.yaml"),
    ("earlier", "fit --config earlier"),
    ("UTF-8", "fit --config utf16.yaml"),
    ("binary.yaml", "fit --config binary.yaml"),
    ("trainer", "fit --config trainer5.yaml"),
    ("trainer", "fit --config trainerlist.yaml"),
    ("trainer", "fit --config trainernull.yaml"),
    ("model", "fit --config model5.yaml"),
    ("data", "fit --config data5.yaml"),
    ("list.yaml", "fit --config list.yaml"),
    ("scalar.yaml", "fit --config scalar.yaml"),
    ("empty.yaml", "fit --config empty.yaml"),
    ("bogus", "fit --config bogus.yaml"),
    ("bogus", "fit --config bogustrainer.yaml"),
    ("bogus", "fit --config bogusmodel.yaml"),
    ("bomb.yaml", "fit --config bomb.yaml"),
    ("deep.yaml", "fit --config deep.yaml"),
    ("loop.yaml", "fit --config loop.yaml"),
    ("huge.yaml", "fit --config huge.yaml"),
    ("tabs.yaml", "fit --config tabs.yaml"),
    ("tag.yaml", "fit --config tag.yaml"),
    ("nul.yaml", "fit --config nul.yaml"),
    ("keys.yaml", "fit --config keys.yaml"),
    ("test", "fit --config othersub.yaml"),
    ("zero", "fit --config /dev/zero"),
    ("fifo", "fit --config fifo"),
    ("--config", "fit --config"),
    ("model.hidden", F + f"--model.hidden {DEEP}"),
    ("model", F + f"--model {DEEP}"),
    ("max_epochs", F + f"--trainer.max_epochs {DEEP}"),
    ("data.shown", S + f"--data.shown {DEEP}"),
    ("hidden", F + f"--model.hidden '{BOMB}'"),
    ("model", F + f"--model '{BOMB}'"),
    ("config", f"fit --config '{DEEP}'"),
    ("config", f"fit --config '{BOMB}'"),
    ("callbacks", F + f"--trainer.callbacks '{BOMB}'"),
    ("model", F + "--model fifo"),
    ("trainer", F + "--trainer fifo"),
    ("model", F + "--model /dev/zero"),
    ("values", "fit --config texts.yaml"),
    # the command itself
    ("command", ""),
    ("train", "train"),
    ("extra", F + "extra"),
    ("--bogus", F + "--bogus 3"),
    ("-x", F + "-x"),
    ("--out", F + "--out new"),
    ("seed_everything", F + "--seed_everything -1"),
    ("seed_everything", F + "--seed_everything x"),
    ("seed_everything", F + "--seed_everything 99999999999"),
    ("seed_everything", F + "--seed_everything 1.5"),
    ("early", F + "--early-stopping 0"),
    ("early", F + "--early-stopping -1"),
    ("early", F + "--early-stopping x"),
    ("early", F + "--early-stopping 1.5"),
    ("out-dir", F + "--out-dir="),
    ("a_file", F + "--out-dir a_file"),
    ("a_file", F + "--out-dir a_file/new"),
    ("earlier", F + "--out-dir earlier"),
    ("out-dir", F + f"--out-dir {LONG}"),
    ("/proc", F + "--out-dir /proc/new"),
    ("overwrite", F + "--overwrite=yes"),
    ("optimizer", F + "--optimizer Foo"),
    ("optimizer", F + "--optimizer Adam --optimizer.lr -1"),
    ("lr_scheduler", F + "--lr_scheduler Foo"),
    ("lr_scheduler", F + "--lr_scheduler StepLR"),
    # the surroundings
    ("COURSE_ACCELERATOR", "COURSE_ACCELERATOR=nonsense " + F),
    ("COURSE_ACCELERATOR", "COURSE_ACCELERATOR=gpu " + F),
    ("COURSE_DATA", "COURSE_DATA=nonsense " + F),
    ("nowhere", "COURSE_DATA= COURSE_DATA_DIR=nowhere " + F),
    ("validation", "COURSE_DATA= COURSE_DATA_DIR=few " + F),
    ("COURSE_PACE", "COURSE_PACE=nonsense " + S),
]


def _short(text: str) -> str:
    """Return a command without what most of them share, for the name of its test."""
    return text.removeprefix(S).removeprefix(F)[:60]


HARMED = "harmed"
EVIL = f"""
open({HARMED!r}, "w").close()
import lightning as L
class Model(L.LightningModule): pass
"""


class Harmful:
    """What a pickle would run."""

    def __reduce__(self):
        return (Path(HARMED).touch, ())


def write_configurations(folder: Path) -> None:
    """Write configurations that are none of the command."""
    texts = {
        "trainer5": "trainer: 5",
        "trainerlist": "trainer: [1]",
        "trainernull": "trainer: null",
        "model5": "model: 5",
        "data5": "data: 5",
        "list": "[1, 2]",
        "scalar": "hello",
        "empty": "",
        "bogus": "bogus: 3",
        "bogustrainer": "trainer: {bogus: 3}",
        "bogusmodel": "model: {class_path: LitMLP, init_args: {bogus: 3}}",
        "bomb": BOMB,
        "deep": DEEP,
        "loop": "&a [*a]",
        "huge": f"x: [{'1, ' * 700_000}1]",
        "texts": f"trainer: {{max_epochs: '{BOMB}'}}",
        "tabs": "trainer:\n\tmax_epochs: 1",
        "tag": f"trainer: !!python/object/apply:os.system [touch {HARMED}]",
        "nul": "trainer: \0",
        "keys": "{[1]: 2}",
        "othersub": "test: {trainer: {max_epochs: 1}}",
    }
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "utf16.yaml").write_text("trainer: {max_epochs: 1}", encoding="utf-16")
    (folder / "binary.yaml").write_bytes(bytes(range(256)))


def write_checkpoints(folder: Path, trained: Path) -> None:
    """Write checkpoints that are damaged, of other things, or out to do harm."""
    content = torch.load(trained / "last.ckpt", weights_only=True)
    arguments, state = content["hyper_parameters"], content["state_dict"]
    alter(trained, folder / "mlp.ckpt")
    (folder / "empty.ckpt").touch()
    (folder / "torn.ckpt").write_bytes((folder / "mlp.ckpt").read_bytes()[:100_000])
    torch.save(5, folder / "number.ckpt")
    changes = {
        "shapes": {"state_dict": {name: value[:1] for name, value in state.items()}},
        "names": {"state_dict": {f"other.{name}": value for name, value in state.items()}},
        "stateint": {"state_dict": 5},
        "hparams": {"hyper_parameters": [1, 2]},
        "code": {"hyper_parameters": Harmful()},
    }
    of_arguments = {
        "intclass": {"_class_path": 5},
        "evil": {"_class_path": "evilmod.Model"},
        "evildata": {"_class_path": "evilmod"},
        "nested": {"hidden": {"class_path": "evilmod.Model"}},
        "lrfast": {"lr": "fast"},
        "minus": {"hidden": [-5]},
        "surprise": {"surprise": 5},
        "bombed": {"hidden": BOMB},
        "texts": {"lr": DEEP},
    }
    changes |= {k: {"hyper_parameters": arguments | v} for k, v in of_arguments.items()}
    for name, change in changes.items():
        alter(trained, folder / f"{name}.ckpt", **change)
    alter(trained, folder / "stateless.ckpt", ("state_dict",))
    alter(trained, folder / "slim.ckpt", ("optimizer_states", "lr_schedulers", "loops"))
    alter(trained, folder / "version.ckpt", ("pytorch-lightning_version",))


def write_few_digits(root: Path) -> None:
    """Write whole MNIST files with six digits in them."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind, sides in (("images-idx3", (6, 28, 28)), ("labels-idx1", (6,))):
            header = struct.pack(f">{1 + len(sides)}I", 0x0800 + len(sides), *sides)
            zeros = bytes(torch.Size(sides).numel())
            (raw / f"{part}-{kind}-ubyte").write_bytes(header + zeros)


@pytest.fixture(scope="module")
def wrong_things(tmp_path_factory, trained) -> Path:
    """Return a folder full of what commands should refuse; nothing is to be added to it."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "a_file").write_text("not a checkpoint")
    (folder / "earlier").mkdir()
    (folder / "earlier" / "last.ckpt").touch()
    (folder / "evilmod.py").write_text(EVIL)
    write_configurations(folder)
    write_checkpoints(folder, trained)
    write_few_digits(folder / "few")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "fifo")
    return folder


@pytest.fixture(autouse=True)
def in_their_folder(wrong_things, trained, monkeypatch):
    """Run each command there, where no GPU is; the loss network is trained once."""
    monkeypatch.chdir(wrong_things)
    monkeypatch.syspath_prepend(str(wrong_things))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(trained.parent / "cache"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)


@pytest.mark.parametrize(("complaint", "text"), TRIES, ids=[_short(text) for _, text in TRIES])
def test_a_wrong_command_is_one_clear_line(complaint, text, run, monkeypatch, wrong_things, capfd):
    if sys.platform == "win32" and any(name in text for name in ("fifo", "/dev/", "/proc/")):
        pytest.skip("Windows has no such files")
    words = shlex.split(text)
    while words and words[0].startswith("COURSE_"):
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    before = sorted(wrong_things.rglob("*"))
    assert run(*words) == 2
    said = capfd.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and len(said) < 1000
    assert complaint in said
    assert sorted(wrong_things.rglob("*")) == before
