"""Sliders that decode a code while they move, for notebooks that are run."""

import io
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from course_utils.views.live import LiveBox, live

WORDS = (
    "Here stand {} sliders, one for each number of a code, and beside them the picture that the "
    "code decodes to. They need a running kernel."
)
MAGNIFY = 8  # screen pixels for each pixel of a picture


def code_sliders(
    decode: Callable[[Tensor], Tensor],
    low: Sequence[float],
    high: Sequence[float],
    start: Sequence[float] | None = None,
):
    """Return one slider for each number of a code, beside the picture that they decode to.

    `decode` takes codes (1, K) and returns pictures (1, 1, H, W) with values from 0 to 1. `low`
    and `high` are the K ends of the sliders; they begin at `start`, or in the middle. The result
    is an ipywidgets box; where no widget can run it says in words what it is.

    Raises ValueError if the ends do not fit together.
    """
    from ipywidgets import HTML, FloatSlider, VBox
    from ipywidgets import Image as Picture

    lows, highs = [float(value) for value in low], [float(value) for value in high]
    if len(lows) != len(highs) or not all(a < b for a, b in zip(lows, highs, strict=False)):
        raise ValueError(
            "code_sliders() needs as many low as high ends, each low end below its high one; got "
            f"low={lows} and high={highs}."
        )
    middle = [(a + b) / 2 for a, b in zip(lows, highs, strict=True)]
    begin = middle if start is None else [float(value) for value in start]
    sliders = [
        FloatSlider(
            value=min(max(value, a), b),
            min=a,
            max=b,
            step=(b - a) / 100,
            description=f"code[{number}]",
            readout_format=".2f",
        )
        for number, (a, b, value) in enumerate(zip(lows, highs, begin, strict=True))
    ]
    picture = Picture(format="png", width=28 * MAGNIFY, height=28 * MAGNIFY)

    def redraw(_=None) -> None:
        code = torch.tensor([[slider.value for slider in sliders]])
        picture.value = _png(decode(code))

    for slider in sliders:
        slider.observe(redraw, names="value")
    redraw()
    column = VBox([HTML(live("<p>Move a slider:</p>")), *sliders])
    return LiveBox([column, picture], WORDS.format(len(sliders)))


@torch.no_grad()
def _png(pictures: Tensor) -> bytes:
    """Return a picture (1, 1, H, W) with values from 0 to 1 as the bytes of a PNG file."""
    levels = (255 * pictures[0].detach().cpu().clamp(0, 1)).round().to(torch.uint8)
    large = levels.repeat_interleave(MAGNIFY, 1).repeat_interleave(MAGNIFY, 2)
    buffer = io.BytesIO()
    to_pil_image(large).save(buffer, format="png")
    return buffer.getvalue()
