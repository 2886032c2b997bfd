"""The command's help, and its options beside those of Trainer, model and data."""

from argparse import RawDescriptionHelpFormatter

from jsonargparse import DefaultHelpFormatter
from jsonargparse.typing import PositiveInt
from lightning.pytorch.cli import LightningArgumentParser

from course_utils.session import chosen_accelerator
from course_utils.train.configs import ConfigFile
from course_utils.train.errors import PROGRAM
from course_utils.train.known import MODELS

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


class CourseHelp(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Help whose description keeps its lines."""


PARSER = {"prog": PROGRAM, "description": HELP, "formatter_class": CourseHelp}


def trainer_defaults() -> dict:
    """Return what the command's Trainer does unless it is told otherwise."""
    return {
        "accelerator": chosen_accelerator(),
        "devices": 1,
        "max_epochs": 5,
        "log_every_n_steps": 10,
        "enable_model_summary": False,
    }


def add_config(parser: LightningArgumentParser) -> None:
    """Add the option for configuration files, which are read with limits."""
    parser.add_argument("-c", "--config", action=ConfigFile, help="a configuration in YAML")


def add_options(parser: LightningArgumentParser) -> None:
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
