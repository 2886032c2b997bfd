"""LightningCLI for the course's models and data, with a folder for all that a run leaves."""

import os
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from course_utils.digits.data import MNISTDataModule
from course_utils.digits.mnist import find_mnist
from course_utils.files import write_whole
from course_utils.models import LitStyle
from course_utils.pictures.photographs import photograph
from course_utils.train import checkpoint, configs, defaults, known, limits, results
from course_utils.train.callbacks import AtFirstStep, KeepLast, WholeCheckpoints
from course_utils.train.errors import PROGRAM, CommandError
from course_utils.train.failures import TrainingInterruptedError, in_a_line
from course_utils.train.folder import claimed
from course_utils.train.log import KeptLog
from course_utils.train.options import add_config, add_options
from course_utils.views.progress import CourseProgress


class CourseCLI(LightningCLI):
    """LightningCLI for the course: all that a run leaves goes to one folder.

    Nothing is written to or deleted from the folder before the first step is done. Raises
    CommandError, or another error of `failures.OURS`, for a wrong command.
    """

    def __init__(self, *args, **kwargs):
        self.content: dict | None = None  # of the checkpoint
        self.start = AtFirstStep(self._begin)
        with in_a_line(self), ExitStack() as self.claims:
            super().__init__(*args, **kwargs)

    # What LightningCLI asks before it builds anything.

    def init_parser(self, **kwargs) -> LightningArgumentParser:
        """Return a parser that reads configuration files with limits."""
        header = [f"lightning.pytorch=={L.__version__}"]
        parser = self.parser_class(**{"dump_header": header} | kwargs)
        add_config(parser)
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the course has beside the options of Trainer, model and data."""
        add_options(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args) -> None:
        """Parse the command, with a model and data where it names none, and check its values."""
        words = sys.argv[1:]
        configs.check_words(words)
        for name in filter(words.__contains__, self._subcommand_parsers):
            named = defaults.given(words, name)
            if named.checkpoint:
                self.content = checkpoint.read(named.checkpoint, to_go_on=name == "fit")
            self._parser(name).set_defaults(defaults.defaults(named, self.content))
            break
        super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        limits.check(config)
        known.fit_data(config)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: the checkpoint's model and arguments are the parser's defaults here.

        LightningCLI's own imports whatever class a checkpoint names.
        """

    def before_instantiate_classes(self) -> None:
        """Check what can be checked before anything is built, and claim the folder."""
        torch.set_num_threads(1)  # as in the lessons: enough for models of this size
        if self.content is None and self.subcommand != "fit":
            raise CommandError(
                f"{self.subcommand} needs a trained model: --ckpt_path FILE (fit leaves best.ckpt "
                "in its folder)."
            )
        if self.subcommand in ("fit", "predict"):
            self.claims.enter_context(claimed(self.folder))
        replaces = self.subcommand == "fit" and self.last.exists() and not self.goes_on
        if replaces and not self._get(self.config, "overwrite"):
            raise CommandError(
                f"{self.folder} holds an earlier run. Choose another --out-dir, replace it by "
                f"--overwrite, or go on with it: {self.resuming()}"
            )

    def instantiate_trainer(self, **kwargs) -> L.Trainer:
        """Return the Trainer, with the course's callbacks and a log in the folder."""
        config = dict(self._get(self.config_init, "trainer"))
        callbacks = [] if config["enable_progress_bar"] is False else [CourseProgress()]
        fits = self.subcommand == "fit"
        if fits:
            callbacks += self._keepers()
            config["plugins"] = _with_whole_checkpoints(config["plugins"])
        if config["logger"] is None:
            config["logger"] = KeptLog(self.folder / "log") if fits else False
        trainer = self._instantiate_trainer(config, callbacks)
        if trainer.world_size > 1:  # each would write the same files, with its part of the results
            raise CommandError(
                f"the command uses one device, not {trainer.world_size}: leave out "
                "--trainer.devices. Lesson 6 shows how to train on several."
            )
        return trainer

    def after_instantiate_classes(self) -> None:
        """Check that weights, pictures and digits are there, and fit what was built."""
        if self.content and known.course_name(self._get(self.config, "model").class_path):
            path = self._get(self.config, "ckpt_path")
            checkpoint.check_fit(self.content, path, self.model)
        if isinstance(self.model, LitStyle):
            for name in getattr(self.datamodule, "shown", ()):
                photograph(name)  # a picture that is missing should not be missed after training
        if isinstance(self.datamodule, MNISTDataModule) and self.subcommand in ("fit", "validate"):
            digits = find_mnist()
            if digits.train < 12:
                raise CommandError(
                    f"{digits} are too few: one of twelve is for validation, so that at least 12 "
                    "are needed to train."
                )

    # What the subcommands do.

    def before_fit(self) -> None:
        """Keep the whole configuration as text, for the folder."""
        config = self.config["fit"].clone()
        config.ckpt_path, config.overwrite = None, False
        self._text = self._parser("fit").dump(config, skip_none=False)

    def fit(self, **kwargs) -> None:
        """Train; an interruption says again how to go on."""
        try:
            self.trainer.fit(**kwargs)
        except (KeyboardInterrupt, SystemExit, SIGTERMException):
            raise TrainingInterruptedError(self.resuming() if self.start.done else "") from None

    def after_fit(self) -> None:
        """Test the best epoch; print the table, where the checkpoint is, and save ten digits."""
        self.start.call(self.trainer)  # a run that was complete makes no step
        best = self.folder / "best.ckpt"  # not the path that a checkpoint of elsewhere remembers
        chosen = str(best if best.is_file() else self.last)
        options = {"datamodule": self.datamodule, "verbose": False}
        epoch = torch.load(chosen, weights_only=True)["epoch"] + 1
        found = self.trainer.validate(self.model, ckpt_path=chosen, **options)[0]
        found |= self.trainer.test(self.model, ckpt_path=chosen, **options)[0]
        epochs = {"epochs": self.trainer.current_epoch, "best epoch": epoch}
        results.print_table(epochs | found)
        print(f"checkpoint: {os.path.relpath(chosen)}")
        if isinstance(self.model, LitStyle):
            redrawn = self.trainer.predict(self.model, datamodule=self.datamodule)
            results.save_photographs(redrawn, self.datamodule, self.folder)
        else:
            self._save_digits()

    def validate(self, **kwargs) -> None:
        """Run the validation digits through a checkpoint; print the table."""
        results.print_table(self.trainer.validate(**kwargs | {"verbose": False})[0])

    def test(self, **kwargs) -> None:
        """Run the test digits through a checkpoint; print the table."""
        results.print_table(self.trainer.test(**kwargs | {"verbose": False})[0])

    def predict(self, **kwargs) -> None:
        """Predict the test digits: a CSV file of all classes, and ten digits as pictures.

        A LitStyle redraws photographs in place of digits.
        """
        if isinstance(self.model, LitStyle):
            redrawn = self.trainer.predict(**kwargs)
            results.save_photographs(redrawn, self.datamodule, self.folder)
            return
        predictions = torch.cat(self.trainer.predict(**kwargs))
        if predictions.ndim == 1:
            results.save_classes(predictions, self.folder)
        self._save_digits()

    # The folder, and what is in it.

    @property
    def folder(self) -> Path:
        """The folder of `--out-dir`."""
        return Path(self._get(self.config, "out_dir"))

    @property
    def last(self) -> Path:
        """The checkpoint that a run resumes from."""
        return self.folder / "last.ckpt"

    @property
    def goes_on(self) -> bool:
        """Whether the command goes on with the run in the folder."""
        path = self._get(self.config, "ckpt_path")
        return bool(path) and Path(path).resolve().parent == self.folder.resolve()

    def resuming(self) -> str:
        """Return the command that goes on with this run."""
        config = shlex.quote(str(self.folder / "config.yaml"))
        return f"{PROGRAM} fit --config {config} --ckpt_path {shlex.quote(str(self.last))}"

    def _keepers(self) -> list[L.Callback]:
        """Return the callbacks that keep a run, and stop it early."""
        best = ModelCheckpoint(
            self.folder, "best", monitor="val_loss", enable_version_counter=False
        )
        patience = self._get(self.config, "early_stopping")
        stopping = [EarlyStopping("val_loss", patience=int(patience))] if patience else []
        return [self.start, *stopping, best, KeepLast(self.last)]

    def _begin(self, trainer: L.Trainer) -> None:
        """Make the folder that of this run, now that a step is done, and say how to go on."""
        if not self.goes_on:
            for old in set(self.folder.glob("*.ckpt")) - {self.last}:
                old.unlink()  # of the run that --overwrite replaces; last.ckpt is replaced itself
        write_whole(self.folder / "config.yaml", self._text.encode())
        for log in trainer.loggers:
            if isinstance(log, KeptLog):
                log.open(trainer.current_epoch if self.goes_on else 0)
        print(f"If it is interrupted, go on with:\n  {self.resuming()}", flush=True)

    def _save_digits(self) -> None:
        # The Trainer has set the data up already, for the test or the prediction before.
        results.save_digits(self.model, self.datamodule.test.images[:10], self.folder)


def _with_whole_checkpoints(plugins: object) -> list:
    """Return the Trainer's plugins, with ours for checkpoints unless one of them is for these."""
    plugins = list(plugins) if isinstance(plugins, list | tuple) else [plugins]
    plugins = [plugin for plugin in plugins if plugin is not None]
    if any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        return plugins
    return [*plugins, WholeCheckpoints()]
