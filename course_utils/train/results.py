"""What a run leaves to look at: a table, predictions, digits and redrawn photographs."""

import csv
from pathlib import Path

import lightning as L
import torch
from torch import Tensor
from torchvision.utils import save_image

from course_utils.digits.data import MEAN, STD


def print_table(results: dict) -> None:
    """Print numbers, one a line, accuracies in per cent."""
    width = max(map(len, results))
    for name, value in results.items():
        shown = f"{value:.2%}" if name.endswith("_acc") else f"{value:.4g}"
        print(f"{name:{width}}  {shown:>8}")


def save_classes(predictions: Tensor, folder: Path) -> None:
    """Write the predicted class of each digit (N,) to `predictions.csv`."""
    path = folder / "predictions.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["digit", "predicted"])
        writer.writerows(enumerate(predictions.tolist()))
    print(f"predictions: {path}")


@torch.no_grad()
def save_digits(model: L.LightningModule, images: Tensor, folder: Path) -> None:
    """Save digits (N, 1, H, W): with the class in the name, or as the model redraws them."""
    outputs = model.cpu().eval()(images)
    for old in folder.glob("digit_*.png"):
        old.unlink()
    for number, output in enumerate(outputs):
        classes = output.ndim == 1
        what = f"says_{output.argmax()}" if classes else "redrawn"
        picture = images[number] * STD + MEAN if classes else output
        save_image(picture, folder / f"digit_{number}_{what}.png")
    print(f"{len(outputs)} digits: {folder / 'digit_*.png'}")


def save_photographs(
    redrawn: list[Tensor] | None, data: L.LightningDataModule, folder: Path
) -> None:
    """Save redrawn photographs, each (3, H, W) from 0 to 1, under the names of the shown ones."""
    redrawn = redrawn or []  # the Trainer gives None where nothing was shown
    shown = getattr(data, "shown", range(len(redrawn)))  # data may be of one's own
    names = [Path(str(name)).stem for name in shown]
    if len(set(names)) < len(names):  # of different folders
        names = [f"{number}_{name}" for number, name in enumerate(names)]
    paths = [folder / f"{name}_redrawn.png" for name in names]
    for picture, path in zip(redrawn, paths, strict=True):
        save_image(picture, path)
    print(f"{len(paths)} photographs: {', '.join(map(str, paths))}")
