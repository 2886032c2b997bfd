"""A small canvas to draw a digit on, for notebooks that are run."""

from collections.abc import Callable
from html import escape

import anywidget
import torch
import traitlets
from torch import Tensor

from course_utils.digits.drawing import from_strokes
from course_utils.parity.looks import PALETTE
from course_utils.views.live import LiveBox, live

WORDS = (
    "Here stands a square to draw a digit on, and beside it what the model reads in it. It needs a "
    "running kernel."
)
BARS = f"""\
div.shown .bar{{display:block;width:150px;height:12px;background:linear-gradient(\
90deg,{PALETTE[5]} var(--part),var(--raised) 0)}}
div.shown .best td{{font-weight:700}}
"""

# Strokes go to Python when the pen is lifted: a message for every movement would queue up.
SCRIPT = """
const SIDE = 280;

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "A square to draw a digit on");
  canvas.style.cssText =
    "border: 1px solid #888; background: black; touch-action: none; cursor: crosshair";
  const clear = document.createElement("button");
  clear.textContent = "Clear";
  clear.style.cssText = "display: block; margin-top: 4px";
  el.append(canvas, clear);

  const pen = canvas.getContext("2d");
  let stroke = null;
  let finger = null;  // whose movements count, where several touch the screen

  function draw() {
    pen.clearRect(0, 0, SIDE, SIDE);
    pen.strokeStyle = "white";
    pen.lineWidth = 24;
    pen.lineCap = pen.lineJoin = "round";
    for (const points of [...model.get("strokes"), ...(stroke ? [stroke] : [])]) {
      pen.beginPath();
      for (const point of points) pen.lineTo(...point);
      pen.stroke();
    }
  }

  function add(event) {
    const box = canvas.getBoundingClientRect();
    stroke.push([
      Math.round((event.clientX - box.left) * SIDE / box.width),
      Math.round((event.clientY - box.top) * SIDE / box.height),
    ]);
    draw();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (stroke || event.button !== 0) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    finger = event.pointerId;
    stroke = [];
    add(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (stroke && event.pointerId === finger) add(event);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      if (!stroke || event.pointerId !== finger) return;
      model.set("strokes", [...model.get("strokes"), stroke]);
      stroke = null;
      model.save_changes();
      draw();
    });
  }
  clear.addEventListener("click", () => {
    stroke = null;
    model.set("strokes", []);
    model.save_changes();
    draw();
  });
  model.on("change:strokes", draw);
  draw();
}

export default { render };
"""


class Canvas(anywidget.AnyWidget):
    """A black square of 280 x 280 to draw on in white; `strokes` is what was drawn on it.

    Each stroke is a list of points [x, y], in pixels of the canvas from its top left corner.
    """

    _esm = SCRIPT
    strokes = traitlets.List().tag(sync=True)


def digit_canvas(read: Callable[[Tensor], Tensor]):
    """Return a canvas, and beside it what a model reads in the digit drawn there.

    `read` takes a picture as MNIST has them, uint8 (28, 28), and returns ten probabilities,
    (10,). The result is an ipywidgets box, whose first child is the canvas; where no widget can
    run it says in words what it is.
    """
    from ipywidgets import HTML

    canvas, answer = Canvas(), HTML()

    def update(_=None) -> None:
        if not canvas.strokes:
            answer.value = live("<p>Draw a digit, then lift the pen.</p>")
            return
        try:
            picture = from_strokes(canvas.strokes)
        except ValueError as error:
            answer.value = live(f"<p>{escape(str(error))}</p>")
            return
        with torch.no_grad():
            answer.value = live(_bars(read(picture).tolist()), BARS)

    canvas.observe(update, names="strokes")
    update()
    return LiveBox([canvas, answer], WORDS)


def _bars(probabilities: list[float]) -> str:
    """Return ten rows of HTML: digit, bar, probability; the most likely one stands out."""
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    rows = []
    for digit, probability in enumerate(probabilities):
        bar = f'<span class="bar" style="--part:{probability:.1%}"></span>'
        name = ' class="best"' if digit == best else ""
        rows.append(f"<tr{name}><td>{digit}</td><td>{bar}</td><td>{probability:.0%}</td></tr>")
    return f"<table><tbody>{''.join(rows)}</tbody></table>"
