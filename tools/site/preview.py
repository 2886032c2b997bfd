"""The picture that a link to the site shows elsewhere."""

import io
from pathlib import Path

from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

SIZE = (1200, 630)  # what networks ask for
GROUND, INK, SOFT, GOOD = "#15181c", "#e6e9ec", "#a9b2bc", "#4fcfae"
LINES = (
    ("From Loops to Lightning", 76, "DejaVuSans-Bold", INK),
    ("PyTorch loops, their ports to Lightning,", 38, "DejaVuSans", SOFT),
    ("and a proof that both compute the same", 38, "DejaVuSans", SOFT),
    ("✓ identical: every step, bit for bit", 38, "DejaVuSansMono", GOOD),
)


def preview(picture: Path) -> bytes:
    """Return the preview as PNG; the style picture stands at its bottom, if there is one."""
    image = Image.new("RGB", SIZE, GROUND)
    draw, top = ImageDraw.Draw(image), 60
    for text, size, name, colour in LINES:
        font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/{name}.ttf", size)
        draw.text((64, top), text, font=font, fill=colour)
        top += round(size * 1.55)
    if picture.exists():
        shown = Image.open(picture)
        shown = shown.resize((SIZE[0], round(shown.height * SIZE[0] / shown.width)))
        image.paste(shown, (0, top + 20))
    file = io.BytesIO()
    image.quantize(128).save(file, format="png", optimize=True)
    return file.getvalue()
