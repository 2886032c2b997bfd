"""Train, validate, test or predict from the command line: `python -m course_utils.train --help`."""

import csv
import os
import re
import shlex
import signal
import sys
import warnings
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from types import ModuleType

import lightning as L
import torch
import yaml
from jsonargparse import DefaultHelpFormatter
from jsonargparse.typing import PositiveInt
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor
from torchvision.utils import save_image

from course_utils import models
from course_utils.digits.data import MEAN, STD
from course_utils.digits.mnist import DataError
from course_utils.models import style
from course_utils.models.loss_network import LossNetworkError
from course_utils.pictures.photographs import PictureError, photograph
from course_utils.session import chosen_accelerator, quieten
from course_utils.switches import SwitchError
from course_utils.views.progress import CourseProgress

PROGRAM = "python -m course_utils.train"
MODELS = sorted(name for name in dir(models) if name.startswith("Lit"))
MNIST = "course_utils.digits.data.ResumableMNIST"
DATA = {"LitStyle": "course_utils.models.style.StylePictures"}  # models of other data than MNIST
SEE = f"See {PROGRAM} --help."
PADDING = {"LitLeNet": 2}  # models that want a margin, and how wide
HELP = f"""Train the course's models on MNIST (LitStyle: on photographs), or use what was trained.

models: {", ".join(MODELS)}, or the import path of a LightningModule of your own

examples:
  {PROGRAM} fit --model LitMLP --trainer.max_epochs 5
  {PROGRAM} fit --model LitLeNet --model.lr 1e-3 --early-stopping --out-dir runs/lenet
  {PROGRAM} fit --model LitLeNet --print_config > lenet.yaml
  {PROGRAM} fit --config lenet.yaml
  {PROGRAM} fit --model LitStyle --model.style brick --out-dir runs/brick
  {PROGRAM} test --ckpt_path runs/lenet/best.ckpt
  {PROGRAM} predict --ckpt_path runs/lenet/best.ckpt --out-dir runs/predictions

fit leaves best.ckpt, last.ckpt, config.yaml, the log (metrics.csv) and ten predicted digits
(LitStyle: three redrawn photographs) in the folder of --out-dir. For pictures of your own:
  {PROGRAM} predict --ckpt_path runs/brick/best.ckpt --data.shown '[my.jpg]'

All options of a command: {PROGRAM} fit --help
"""


class CommandError(Exception):
    """Something in the command is wrong; the message says what, and what to do."""


# What is wrong with the command or the surroundings: said in a line, without a traceback.
OURS = (CommandError, DataError, LossNetworkError, PictureError, SwitchError, style.SizeError)


class TrainingInterruptedError(Exception):
    """Training was interrupted; the message is the command that goes on with it."""


class CourseHelp(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Help whose description keeps its lines."""


class CourseParser(LightningArgumentParser):
    """A parser whose errors are one clear line."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        """Raise CommandError with the part of the message that a person needs."""
        raise CommandError(_one_line(message))


class KeepLast(Checkpoint):
    """Keeps `last.ckpt`: from before the first step on, and again after every epoch.

    Whenever a run is killed, there is a whole file to go on from. It also holds the state of the
    random generators, so that a run that resumes makes the same steps as one never interrupted.
    """

    def __init__(self, path: Path):
        self.path = path
        self._random: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the states of the random generators: CPU, and those of GPUs that are there."""
        return {name: holder.get_rng_state() for name, holder in _generators().items()}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Keep the states until training starts: nothing can draw between there and its steps."""
        self._random = state_dict

    def on_train_start(self, trainer, pl_module):
        """Set the generators of a resumed run, or keep the start of a new one."""
        for name, holder in _generators().items():
            if name in self._random:
                holder.set_rng_state(self._random[name].cpu())
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer, pl_module):
        """Keep the run as it is after this epoch."""
        trainer.save_checkpoint(self.path)


def _generators() -> dict[str, ModuleType]:
    """Return the modules that hold the random generators of the devices here."""
    found = {"cpu": torch}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda
    if torch.backends.mps.is_available():
        found["mps"] = torch.mps
    return found


class CourseCLI(LightningCLI):
    """LightningCLI for the course's models and data, with a folder for all that a run leaves."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the course has beside the options of Trainer, model and data."""
        parser.add_argument(
            "--out-dir", default="runs/train", metavar="FOLDER", help="where all files go"
        )
        parser.add_argument(
            "--early-stopping",
            type=PositiveInt,
            nargs="?",
            const=4,
            metavar="EPOCHS",
            help="fit: stop when val_loss has had no new low for so many epochs (alone: 4)",
        )
        parser.add_argument(
            "--overwrite", action="store_true", help="fit: replace an earlier run in the folder"
        )

    @property
    def folder(self) -> Path:
        """The folder of `--out-dir`."""
        return Path(self._get(self.config, "out_dir"))

    @property
    def last(self) -> Path:
        """The checkpoint that a run resumes from."""
        return self.folder / "last.ckpt"

    def before_instantiate_classes(self) -> None:
        """Check what can be checked before anything is built, and fit the data to the model."""
        torch.set_num_threads(1)  # as in the lessons: enough for models of this size
        checkpoint = self._get(self.config, "ckpt_path")
        if checkpoint is None and self.subcommand != "fit":
            raise CommandError(
                f"{self.subcommand} needs a trained model: --ckpt_path FILE (fit leaves best.ckpt "
                "in its folder)."
            )
        if self.subcommand in ("fit", "predict"):
            _be_writable(self.folder)
        new = self.subcommand == "fit" and not checkpoint
        if new and self.last.exists() and not self._get(self.config, "overwrite"):
            raise CommandError(
                f"{self.folder} holds an earlier run. Choose another --out-dir, replace it by "
                f"--overwrite, or go on with it: {self.resuming()}"
            )
        config = self.config[self.subcommand]
        name = config.model.class_path.rpartition(".")[2]
        if name in DATA and config.data.class_path == MNIST:
            raise CommandError(f"{name} takes no digits: leave out --data, or give {DATA[name]}.")
        if name in PADDING and config.data.init_args.get("pad") == 0:
            config.data.init_args.pad = PADDING[name]

    def instantiate_trainer(self, **kwargs) -> L.Trainer:
        """Return the Trainer, with the course's callbacks and a log in the folder."""
        config = dict(self._get(self.config_init, "trainer"))
        callbacks = [CourseProgress()]
        if self.subcommand == "fit":
            callbacks += [
                ModelCheckpoint(
                    self.folder, "best", monitor="val_loss", enable_version_counter=False
                ),
                KeepLast(self.last),
            ]
            if patience := self._get(self.config, "early_stopping"):
                callbacks.append(EarlyStopping("val_loss", patience=int(patience)))
        if config["logger"] is None:
            fits = self.subcommand == "fit"
            config["logger"] = CSVLogger(self.folder, name="", version="log") if fits else False
        trainer = self._instantiate_trainer(config, callbacks)
        if trainer.world_size > 1:  # each would write the same files, with its part of the results
            raise CommandError(
                f"the command uses one device, not {trainer.world_size}: leave out "
                "--trainer.devices. Lesson 6 shows how to train on several."
            )
        return trainer

    def resuming(self) -> str:
        """Return the command that goes on with this run."""
        config = shlex.quote(str(self.folder / "config.yaml"))
        return f"{PROGRAM} fit --config {config} --ckpt_path {shlex.quote(str(self.last))}"

    def _parse_ckpt_path(self) -> None:
        """Take the model and its hyperparameters from a checkpoint, if it is one."""
        path = self.config[self.config.subcommand].ckpt_path
        if path and not Path(path).is_file():
            raise CommandError(f"there is no checkpoint {path}: give the path of a .ckpt file.")
        try:
            super()._parse_ckpt_path()
        except CommandError:
            raise
        except Exception as error:  # whatever torch finds wrong with the file
            raise CommandError(
                f"{path} cannot be loaded as a checkpoint ({type(error).__name__}): it is damaged, "
                "of another kind, or holds more than weights."
            ) from None

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict:
        options = super()._prepare_subcommand_kwargs(subcommand)
        if options["weights_only"] is None:
            options["weights_only"] = True  # a checkpoint is data: it may run no code
        return options

    def before_fit(self) -> None:
        """Keep the whole configuration, and say how to go on after an interruption."""
        if isinstance(self.model, style.LitStyle):
            for name in getattr(self.datamodule, "shown", ()):
                photograph(name)  # a picture that is missing should not be missed after training
        config = self.config["fit"].clone()
        config.ckpt_path, config.overwrite = None, False
        text = self._parser("fit").dump(config, skip_none=False)
        if not self._get(self.config, "ckpt_path"):
            for old in self.folder.glob("*.ckpt"):
                old.unlink()  # of the run that --overwrite replaces
        (self.folder / "config.yaml").write_text(text, encoding="utf-8")
        print(f"If it is interrupted, go on with:\n  {self.resuming()}", flush=True)

    def fit(self, **kwargs) -> None:
        """Train; an interruption says again how to go on."""
        try:
            self.trainer.fit(**kwargs)
        except (KeyboardInterrupt, SystemExit, SIGTERMException):
            raise TrainingInterruptedError(self.resuming()) from None

    def after_fit(self) -> None:
        """Test the best epoch; print the table, where the checkpoint is, and save ten digits."""
        best = self.trainer.checkpoint_callback.best_model_path
        chosen = best or str(self.last)
        options = {"datamodule": self.datamodule, "verbose": False}
        epoch = torch.load(chosen, weights_only=True)["epoch"] + 1
        results = self.trainer.validate(self.model, ckpt_path=chosen, **options)[0]
        results |= self.trainer.test(self.model, ckpt_path=chosen, **options)[0]
        _print_table({"epochs": self.trainer.current_epoch, "best epoch": epoch} | results)
        print(f"checkpoint: {os.path.relpath(chosen)}")
        self._save_samples()

    def validate(self, **kwargs) -> None:
        """Run the validation digits through a checkpoint; print the table."""
        _print_table(self.trainer.validate(**kwargs | {"verbose": False})[0])

    def test(self, **kwargs) -> None:
        """Run the test digits through a checkpoint; print the table."""
        _print_table(self.trainer.test(**kwargs | {"verbose": False})[0])

    def predict(self, **kwargs) -> None:
        """Predict the test digits: a CSV file of all classes, and ten digits as pictures.

        A LitStyle redraws photographs in place of digits.
        """
        if isinstance(self.model, style.LitStyle):
            self._save_photographs(self.trainer.predict(**kwargs))
            return
        predictions = torch.cat(self.trainer.predict(**kwargs))
        if predictions.ndim == 1:
            path = self.folder / "predictions.csv"
            with open(path, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["digit", "predicted"])
                writer.writerows(enumerate(predictions.tolist()))
            print(f"predictions: {path}")
        self._save_digits()

    def _save_samples(self) -> None:
        """Save what the trained model makes of a few pictures."""
        if isinstance(self.model, style.LitStyle):
            redrawn = self.trainer.predict(self.model, datamodule=self.datamodule)
            self._save_photographs(redrawn)
        else:
            self._save_digits()

    def _save_photographs(self, redrawn: list[Tensor] | None) -> None:
        redrawn = redrawn or []  # the Trainer gives None where nothing was shown
        shown = getattr(self.datamodule, "shown", range(len(redrawn)))  # data may be of your own
        names = [Path(str(name)).stem for name in shown]
        if len(set(names)) < len(names):  # of different folders
            names = [f"{number}_{name}" for number, name in enumerate(names)]
        paths = [self.folder / f"{name}_redrawn.png" for name in names]
        for picture, path in zip(redrawn, paths, strict=True):
            save_image(picture, path)
        print(f"{len(paths)} photographs: {', '.join(map(str, paths))}")

    @torch.no_grad()
    def _save_digits(self, count: int = 10) -> None:
        """Save the first test digits: with the class in the name, or as the model redraws them.

        The Trainer has set the data up already, for the test or the prediction before.
        """
        images = self.datamodule.test.images[:count]
        outputs = self.model.cpu().eval()(images)
        for old in self.folder.glob("digit_*.png"):
            old.unlink()
        for number, output in enumerate(outputs):
            classes = output.ndim == 1
            what = f"says_{output.argmax()}" if classes else "redrawn"
            picture = images[number] * STD + MEAN if classes else output
            save_image(picture, self.folder / f"digit_{number}_{what}.png")
        print(f"{len(outputs)} digits: {self.folder / 'digit_*.png'}")


def main() -> int:
    """Run a command and return its exit code: 0, 2 for a wrong command, 130 if interrupted."""
    quieten()
    warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")  # loss networks
    sys.argv[1:] = _with_defaults(sys.argv[1:])
    # Files of an earlier run are asked about before they are replaced.
    warnings.filterwarnings("ignore", ".*exists and is not empty.*")
    # What fit needs to go on with is not needed to test.
    warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint need.*")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a kill ends as Ctrl-C does
    try:
        CourseCLI(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=42,
            parser_class=CourseParser,
            parser_kwargs={"prog": PROGRAM, "description": HELP, "formatter_class": CourseHelp},
            trainer_defaults={
                "accelerator": chosen_accelerator(),
                "devices": 1,
                "max_epochs": 5,
                "log_every_n_steps": 10,
                "enable_model_summary": False,
            },
        )
    except (*OURS, ValueError) as error:
        ours = error
        while ours and not isinstance(ours, OURS):
            ours = ours.__cause__  # jsonargparse wraps what a constructor raises
        if not ours:
            raise
        print(f"error: {ours}", file=sys.stderr)
        return 2
    except TrainingInterruptedError as stop:
        print(f"Interrupted. Go on with:\n  {stop}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 0


def _with_defaults(words: list[str]) -> list[str]:
    """Return a command with the model and the data that it leaves open.

    Defaults of the parser would not do: another class given later would inherit their arguments.
    """
    if not words or words[0].startswith("-"):
        return words
    given = _options(words)
    given = _of_config(given.get("--config", given.get("-c", "")), words[0]) | given
    model = given.get("--model.class_path", given.get("--model"))
    missing = [] if model else ["--model", "LitMLP"]
    if not given.keys() & {"--data", "--data.class_path"}:
        name = model or _of_checkpoint(given.get("--ckpt_path", "")) or "LitMLP"
        missing += ["--data", DATA.get(name.rpartition(".")[2], MNIST)]
    return [words[0], *missing, *words[1:]]


def _options(words: list[str]) -> dict[str, str]:
    """Return the options among words, each with its value, or with the word that follows."""
    pairs = zip(words, [*words[1:], ""], strict=True)
    parts = [(*word.partition("="), after) for word, after in pairs if word.startswith("-")]
    return {name: value if equals else after for name, equals, value, after in parts}


def _of_config(path: str, subcommand: str) -> dict[str, str]:
    """Return model and data that a configuration file gives, as options."""
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):  # the parser says what is wrong with it
        return {}
    config = config.get(subcommand, config) if isinstance(config, dict) else {}
    found = {key: config.get(key) for key in ("model", "data")}
    found = {k: v.get("class_path") if isinstance(v, dict) else v for k, v in found.items()}
    return {f"--{key}": value for key, value in found.items() if isinstance(value, str)}


def _of_checkpoint(path: str) -> str:
    """Return the class of the model in a checkpoint, if the file says it."""
    try:
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
        return checkpoint["hyper_parameters"]["_class_path"]
    except Exception:  # what is wrong with it is said where it is used
        return ""


def _be_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".trial-{os.getpid()}"
        trial.write_text("")
        trial.unlink()
    except OSError as error:
        raise CommandError(
            f"cannot write to {folder} ({error.strerror}): name another folder by --out-dir."
        ) from None


def _one_line(message: str) -> str:
    """Return what a person needs of one of the parser's messages."""
    key = re.search(r'Parser key "([\w.]+)"', message)
    given = re.search(r"(?:Given value|Got value): (.*?)\s*$", message, re.MULTILINE)
    nested = re.search(r"NestedArg\(key='([\w.]+)', val='(.*?)'\)", message)
    if nested:
        return f"{key[1]}.{nested[1]}={nested[2]} is not valid for {key[1]}. {SEE}"
    if key and key[1] == "model" and "import path" in message and given:
        return (
            f"unknown model {given[1]}: the course has {', '.join(MODELS)}; one of your own needs "
            "its import path, as in --model my_module.MyModel."
        )
    if key and given:
        kinds = re.findall(r"Expected a <class '(\w+)'>", message)
        wanted = " or ".join(dict.fromkeys(kind for kind in kinds if kind != "NoneType"))
        return f"{key[1]}={given[1]} is not valid: expected {wanted or 'another value'}. {SEE}"
    text = " ".join(message.split()).replace("Parser key ", "").rstrip(".")
    return f"{text[:200]}. {SEE}"


def _print_table(results: dict) -> None:
    width = max(map(len, results))
    for name, value in results.items():
        shown = f"{value:.2%}" if name.endswith("_acc") else f"{value:.4g}"
        print(f"{name:{width}}  {shown:>8}")
