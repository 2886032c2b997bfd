"""The course's pictures: one style, labelled axes, colours that everyone can tell apart."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

# Okabe and Ito's palette (2008), which stays distinct for colour-blind readers. Lines differ by
# dash as well, so that they can be told apart in grey.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
STYLE = {
    "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=DASHES),
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "grid.alpha": 0.3,
    "image.cmap": "gray",
    "legend.frameon": False,
}


def digit_grid(
    images: Tensor,
    titles: Sequence[object] | None = None,
    columns: int = 10,
    right: Sequence[bool] | None = None,
) -> Figure:
    """Draw digits in a grid, each with its title, and return the figure.

    `images` is (N, 1, H, W) or (N, H, W), in any range of values: each grid is scaled as a whole.
    `right` colours the titles blue where True and orange where False.
    """
    pictures = images.detach().cpu().reshape(-1, *images.shape[-2:]).float()
    if not len(pictures):
        raise ValueError("digit_grid() got no images: expected a tensor of shape (N, 1, H, W).")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    with plt.rc_context(STYLE):
        # A line of a title needs 0.18 inches.
        lines = max((str(title).count("\n") + 1 for title in titles or ()), default=0)
        size = (0.9 * columns, (0.9 + 0.2 * lines) * rows)
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
        low, high = float(pictures.min()), float(pictures.max())
        for index, axis in enumerate(axes.flat):
            axis.axis("off")
            if index >= len(pictures):
                continue
            axis.imshow(pictures[index], vmin=low, vmax=high)
            if titles is not None:
                colour = "black" if right is None else COLOURS[0 if right[index] else 1]
                axis.set_title(str(titles[index]), fontsize=9, color=colour)
    return _closed(figure)


def curves(
    series: Mapping[str, Sequence[float]], y: str, x: str = "epoch", title: str = "", first: int = 1
) -> Figure:
    """Draw one line for each named series over `first`, `first + 1`, …; return the figure."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6, 3.2))
        longest = max(len(values) for values in series.values())
        for name, values in series.items():
            marker = "o" if longest <= 20 else None
            axis.plot(range(first, first + len(values)), values, marker=marker, ms=4, label=name)
        axis.set(xlabel=x, ylabel=y, title=title)
        if longest <= 20:
            axis.set_xticks(range(first, first + longest))
        axis.legend()
    return _closed(figure)


def bars(values: Mapping[str, float], x: str, title: str = "", form: str = "{:.2f}") -> Figure:
    """Draw one horizontal bar for each named value, with the value at its end."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6, 0.6 + 0.42 * len(values)))
        places = np.arange(len(values))[::-1]
        axis.barh(places, list(values.values()), height=0.6, color=COLOURS[0], linestyle="-")
        for place, value in zip(places, values.values(), strict=True):
            axis.annotate(
                form.format(value), (value, place), (4, 0), textcoords="offset points", va="center"
            )
        axis.set_yticks(places, list(values))
        axis.set(xlabel=x, title=title, xlim=(0, 1.15 * max(values.values())))
        axis.grid(False)
    return _closed(figure)


def confusion_matrix(matrix: Tensor, title: str = "") -> Figure:
    """Draw a (C, C) matrix of counts: true classes in rows, predicted ones in columns.

    Mistakes are shaded by their number; the diagonal, where the right answers are, is left blank
    but for its counts, as it would drown everything else.
    """
    counts = matrix.detach().cpu().numpy()
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"expected a square matrix of counts, got the shape {counts.shape}")
    mistakes = counts * (1 - np.eye(len(counts), dtype=int))
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.6, 5))
        picture = axis.imshow(mistakes, cmap="Blues")
        for (row, column), count in np.ndenumerate(counts):
            if count:
                dark = row != column and count > 0.6 * mistakes.max()
                axis.text(
                    column,
                    row,
                    int(count),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if dark else "black",
                )
        axis.set(xlabel="predicted digit", ylabel="true digit", title=title)
        axis.set_xticks(range(len(counts)))
        axis.set_yticks(range(len(counts)))
        axis.grid(False)
        ticks = MaxNLocator(integer=True)
        figure.colorbar(picture, label="mistakes (number of digits)", shrink=0.8, ticks=ticks)
    return _closed(figure)


def confident_mistakes(images: Tensor, labels: Tensor, logits: Tensor, count: int = 10) -> Figure:
    """Draw the wrong predictions that the model was surest of, surest first.

    `images` is (N, 1, H, W), `labels` (N,) and `logits` (N, C). Each title says what the digit
    is, what the model saw in it, and with which probability. Raises ValueError if the model made
    no mistake.
    """
    probabilities = logits.detach().cpu().softmax(1)
    sureness, guesses = probabilities.max(1)
    truth = labels.cpu()
    wrong = (guesses != truth).nonzero().flatten()
    if not len(wrong):
        raise ValueError("The model made no mistake on these digits, so there is none to show.")
    worst = wrong[sureness[wrong].argsort(descending=True)][:count]
    titles = [f"is {truth[i]}\nsaid {guesses[i]}\n{sureness[i]:.0%}" for i in worst]
    return digit_grid(images[worst.to(images.device)], titles)


def paired_losses(
    losses: tuple[Sequence[float], Sequence[float]], names: tuple[str, str], step: int | None
) -> Figure:
    """Draw two loss curves on top of each other, and the step (from 1) where they first differ."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6, 2.8))
        for values, name, width, dash in zip(losses, names, (4, 1.2), ("-", "-"), strict=True):
            colour = COLOURS[4] if width > 2 else COLOURS[6]
            smooth = running_mean(values, max(1, len(values) // 100))
            axis.plot(
                range(1, len(smooth) + 1), smooth, lw=width, ls=dash, color=colour, label=name
            )
        if step is not None:
            axis.axvline(step, color=COLOURS[1], ls=":", label=f"first difference: step {step:,}")
        axis.set(xlabel="optimizer step", ylabel="training loss")
        axis.legend()
    return _closed(figure)


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """Return the mean of each value and up to `width - 1` before it."""
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=float))])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return ((sums[ends] - sums[starts]) / (ends - starts)).tolist()


def _closed(figure: Figure) -> Figure:
    """Take the figure out of pyplot's hands, which would show it a second time."""
    plt.close(figure)
    return figure
