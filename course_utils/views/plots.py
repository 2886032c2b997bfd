"""The course's pictures: one style, labelled axes, colours that everyone can tell apart."""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from course_utils.parity.looks import COLOURS as PAGE
from course_utils.parity.looks import PALETTE, PALETTE_OF_TEN, ink_of, ink_on

# Lines differ by dash as well as by colour, so that they can be told apart in grey.
COLOURS, TEN_COLOURS = PALETTE, PALETTE_OF_TEN
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
INK, SOFT = PAGE["ink"].light, PAGE["soft"].light
# A ground and an ink of its own: a picture stays as it is on a dark page.
STYLE = {
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "white"),
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), SOFT),
    "axes.titlecolor": INK,
    "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=DASHES),
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "grid.alpha": 0.3,
    "image.cmap": "gray",
    "image.interpolation": "nearest",  # pixels as they are, and files a third as large
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
    pictures = _flat(images)
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
                colour = INK if right is None else ink_of(COLOURS[0 if right[index] else 1])
                axis.set_title(str(titles[index]), fontsize=9, color=colour)
    return _closed(figure)


def image_rows(
    rows: Mapping[str, Tensor], titles: Sequence[object] | None = None, each: bool = False
) -> Figure:
    """Draw one row of images for each name, the name at its left; return the figure.

    Each row is (N, 1, H, W) or (N, H, W) and is scaled as a whole, or with `each` image by image;
    rows may differ in length and size. `titles` stand above the first row.
    """
    pictures = {name: _flat(images) for name, images in rows.items()}
    columns = max((len(row) for row in pictures.values()), default=0)
    if not columns:
        raise ValueError("image_rows() got no images: expected name: tensor (N, 1, H, W).")
    with plt.rc_context(STYLE):
        size = (0.85 * columns + 1.4, 0.9 * len(rows) + (0.25 if titles else 0))
        figure, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False)
        _label_rows(axes, rows, titles)
        for row, images in zip(axes, pictures.values(), strict=True):
            low, high = float(images.min()), float(images.max())
            for axis, image in zip(row, images, strict=False):
                axis.imshow(image, **({} if each else {"vmin": low, "vmax": high}))
    return _closed(figure)


def _flat(images: Tensor) -> Tensor:
    """Return images of any number of leading dimensions as (N, H, W), on the CPU."""
    return images.detach().cpu().reshape(-1, *images.shape[-2:]).float()


def _label_rows(axes: np.ndarray, names: Iterable[str], titles: Sequence[object] | None) -> None:
    """Take ticks and frames off rows of axes; names stand at the left, titles above the first."""
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(False)
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
    for axis, title in zip(axes[0], titles or (), strict=False):
        axis.set_title(str(title), fontsize=9)


def photo_rows(
    rows: Mapping[str, Sequence[Tensor]], titles: Sequence[object] | None = None, side: float = 1.9
) -> Figure:
    """Draw a row of pictures for each name, the name at its left; return the figure.

    Each picture is (3, H, W) or (1, H, W), from 0 to 1, and is drawn `side` inches wide. `titles`
    stand above the first row.
    """
    columns = max((len(row) for row in rows.values()), default=0)
    if not columns:
        raise ValueError("photo_rows() got no pictures: expected name: list of (3, H, W).")
    tallest = [max((p.shape[-2] / p.shape[-1] for p in row), default=1) for row in rows.values()]
    with plt.rc_context(STYLE):
        size = (side * columns + 1, side * sum(tallest) + 0.3)
        ratios = {"height_ratios": tallest}
        figure, axes = plt.subplots(
            len(rows), columns, figsize=size, squeeze=False, gridspec_kw=ratios
        )
        _label_rows(axes, rows, titles)
        for places, row in zip(axes, rows.values(), strict=True):
            for axis, picture in zip(places, row, strict=False):
                shown = picture.detach().cpu().clamp(0, 1).permute(1, 2, 0).squeeze(-1)
                axis.imshow(shown, vmin=0, vmax=1, interpolation="antialiased")
    return _closed(figure)


def pictures(named: Mapping[str, Tensor]) -> Figure:
    """Draw a few images beside each other, large, with their pixels counted at the edges.

    Each image is (1, 1, H, W), (1, H, W) or (H, W); they may differ in size and range.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(named), figsize=(2.5 * len(named), 2.7), squeeze=False)
        for axis, (name, image) in zip(axes.flat, named.items(), strict=True):
            axis.imshow(image.detach().cpu().reshape(image.shape[-2:]))
            axis.set_title(name, fontsize=10)
            axis.set_xlabel("pixels", fontsize=8)
            axis.tick_params(labelsize=8)
            axis.grid(False)
    return _closed(figure)


def signed_grid(
    images: Tensor, titles: Sequence[object] | None = None, columns: int = 8, label: str = "weight"
) -> Figure:
    """Draw images (N, H, W) whose values have a sign: blue above 0, red below, white at 0."""
    pictures = _flat(images)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    most = float(pictures.abs().max()) or 1.0
    with plt.rc_context(STYLE):
        side = 1.7 if len(pictures) <= 4 else 1.05
        height = (side + (0.2 if titles else 0)) * rows
        figure, axes = plt.subplots(
            rows, columns, figsize=(side * columns + 0.9, height), squeeze=False
        )
        for index, axis in enumerate(axes.flat):
            axis.axis("off")
            if index < len(pictures):
                drawn = axis.imshow(pictures[index], cmap="RdBu", vmin=-most, vmax=most)
                axis.set_title(str(titles[index]) if titles else "", fontsize=9)
        figure.colorbar(drawn, ax=axes, label=label, shrink=0.9)
    return _closed(figure)


def mosaic(
    images: Tensor, xs: Sequence[float], ys: Sequence[float], x: str, y: str, title: str = ""
) -> Figure:
    """Draw images side by side as one picture, at their places on two axes.

    `images` is (len(ys), len(xs), 1, H, W): row by row, `ys` from the bottom up.
    """
    height, width = images.shape[-2:]
    tiles = images.detach().cpu().reshape(len(ys), len(xs), height, width)
    picture = tiles.flip(0).permute(0, 2, 1, 3).reshape(len(ys) * height, len(xs) * width)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.2, 5.2 * len(ys) / len(xs)))
        # One unit a tile, as the two axes can have very different spans.
        axis.imshow(picture, extent=(-0.5, len(xs) - 0.5, -0.5, len(ys) - 0.5))
        axis.set_xticks(range(0, len(xs), 2), [f"{value:.1f}" for value in xs[::2]])
        axis.set_yticks(range(0, len(ys), 2), [f"{value:.1f}" for value in ys[::2]])
        axis.set(xlabel=x, ylabel=y, title=title)
        axis.grid(False)
    return _closed(figure)


def codes_3d(codes: Tensor, labels: Tensor, views: Sequence[int] = (-60, 30)) -> Figure:
    """Draw codes (N, 3) in space, each as its digit; one picture for each angle in `views`."""
    if codes.ndim != 2 or codes.shape[1] != 3:
        raise ValueError(f"codes_3d() draws codes of shape (N, 3), got {tuple(codes.shape)}")
    points, digits = codes.detach().cpu().numpy(), labels.cpu().numpy()
    with plt.rc_context(STYLE):
        # Constrained layout cuts off the labels of axes in space.
        figure = plt.figure(figsize=(5 * len(views), 4.6), layout="none")
        figure.subplots_adjust(left=0, right=0.95, bottom=0.05, top=1, wspace=0.3)
        for place, angle in enumerate(views, 1):
            axis = figure.add_subplot(1, len(views), place, projection="3d")
            for digit in np.unique(digits):
                chosen = points[digits == digit].T
                colour = ink_of(TEN_COLOURS[int(digit) % len(TEN_COLOURS)])
                # The digit itself as marker: the picture can be read without its colours.
                axis.scatter(*chosen, color=colour, marker=f"${digit}$", s=26, linewidths=0.2)
            axis.set(xlabel="code[0]", ylabel="code[1]", zlabel="code[2]")
            axis.tick_params(labelsize=7)
            axis.view_init(elev=20, azim=angle)
    return _closed(figure)


def curves(
    series: Mapping[str, Sequence[float]], y: str, x: str = "epoch", title: str = "", first: int = 1
) -> Figure:
    """Draw one line for each named series over `first`, `first + 1`, …; return the figure."""
    longest = max(len(values) for values in series.values())
    places = range(first, first + longest)
    return lines(places, series, x, y, title, ticks=longest <= 20)


def lines(
    places: Sequence[float],
    series: Mapping[str, Sequence[float]],
    x: str,
    y: str,
    title: str = "",
    ticks: bool = False,
    scale: str = "linear",
    y_scale: str = "linear",
) -> Figure:
    """Draw one line for each named series over `places`; `ticks` marks each place.

    A series may be shorter than `places`: it ends early. `scale` is that of the places, `y_scale`
    that of the values, each `linear` or `log`.
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6, 3.2))
        for name, values in series.items():
            marker = "o" if ticks else None
            axis.plot(places[: len(values)], values, marker=marker, ms=4, label=name)
        axis.set(xlabel=x, ylabel=y, title=title, xscale=scale, yscale=y_scale)
        if ticks:
            axis.set_xticks(places)
        axis.legend()
    return _closed(figure)


def call_order(calls: Sequence[tuple[str, str]], title: str = "") -> Figure:
    """Draw who is called when: `calls` are (owner, name) in order, one column for each owner."""
    owners = list(dict.fromkeys(owner for owner, _ in calls))
    if not owners:
        raise ValueError("call_order() got no calls: expected (owner, name) pairs.")
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(2.9 * len(owners) + 0.6, 0.27 * len(calls) + 0.8))
        columns = [owners.index(owner) for owner, _ in calls]
        axis.plot(columns, range(len(calls)), color="#999999", lw=0.8, ls="-", zorder=1)
        for row, (column, (_, name)) in enumerate(zip(columns, calls, strict=True)):
            box = {"boxstyle": "round,pad=0.25", "fc": "white", "ec": COLOURS[column % 7], "lw": 1}
            axis.text(column, row, name, ha="center", va="center", fontsize=8, bbox=box)
        axis.set(xlim=(-0.6, len(owners) - 0.4), ylim=(len(calls) - 0.4, -0.8))
        axis.set_xticks(range(len(owners)), owners)
        axis.xaxis.tick_top()
        axis.set(ylabel="order of the calls, from top to bottom", yticks=[], title=title)
        axis.grid(False)
    return _closed(figure)


def bars(values: Mapping[str, float], x: str, title: str = "", form: str = "{:.2f}") -> Figure:
    """Draw one horizontal bar for each named value, with the value at its end."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6, 0.6 + 0.42 * len(values)))
        _draw_bars(axis, values, form)
        axis.set(xlabel=x, title=title)
    return _closed(figure)


def bars_side_by_side(panels: Mapping[str, Mapping[str, float]], form: str = "{:.2f}") -> Figure:
    """Draw a panel of bars for each axis label, all with the same names, which stand at the left.

    Each panel has a scale of its own. Raises ValueError if the names differ between panels.
    """
    if len({tuple(values) for values in panels.values()}) != 1:
        raise ValueError(
            "bars_side_by_side() needs the same names, in the same order, in all panels."
        )
    names = next(iter(panels.values()))
    with plt.rc_context(STYLE):
        size = (4.2 * len(panels), 0.6 + 0.42 * len(names))
        figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False)
        for axis, (label, values) in zip(axes.flat, panels.items(), strict=True):
            _draw_bars(axis, values, form)
            axis.set(xlabel=label)
            if axis is not axes[0, 0]:
                axis.set_yticklabels([])
    return _closed(figure)


def _draw_bars(axis: Axes, values: Mapping[str, float], form: str) -> None:
    places = np.arange(len(values))[::-1]
    axis.barh(places, list(values.values()), height=0.6, color=COLOURS[0], linestyle="-")
    for place, value in zip(places, values.values(), strict=True):
        axis.annotate(
            form.format(value), (value, place), (4, 0), textcoords="offset points", va="center"
        )
    axis.set_yticks(places, list(values))
    axis.set(xlim=(0, 1.15 * max(values.values())))
    axis.grid(False)


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
        middle = {"ha": "center", "va": "center", "fontsize": 8}
        for (row, column), count in np.ndenumerate(counts):
            if count:
                ground = to_hex(picture.to_rgba(mistakes[row, column]))
                axis.text(column, row, int(count), color=ink_on(ground), **middle)
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
