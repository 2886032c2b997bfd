"""What every notebook must be like, before and after it is run."""

import ast
import base64
import io
import statistics
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
from PIL import Image

from course_utils.digits import data
from course_utils.models import loss_network, networks, style
from course_utils.views import plots
from tools import build, publishable, record
from tools.project import (
    NOTEBOOKS,
    exercise_sources,
    notebook_of,
    recorded,
    repository,
    solution_of,
    sources,
    stub_of,
)

LESSONS = sources()


def read(source):
    return nbformat.read(notebook_of(source), as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def without_magics(cell):
    """Return a cell's Python: also that of a script which `%%writefile` writes."""
    return "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))


def definitions(tree):
    """Return the classes and functions at the top of a program by name, docstrings taken out."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(inner):
                    inner.body = inner.body[1:]
            found[node.name] = ast.dump(node)
    return found


SHIPPED = {
    name: dump
    for module in (networks, data, loss_network, style)
    for name, dump in definitions(ast.parse(Path(module.__file__).read_text("utf-8"))).items()
}
SHOWN = [
    (source.stem, name, dump)
    for source in LESSONS
    for cell in code_cells(jupytext.read(source))
    if "setup" not in cell.metadata.get("tags", [])
    for name, dump in definitions(ast.parse(without_magics(cell))).items()
]


def test_nothing_derived_is_out_of_date():
    assert build.stale() == []


@pytest.mark.parametrize("path", recorded(), ids=lambda path: str(path.relative_to(NOTEBOOKS)))
def test_recorded_outputs_are_fit_to_publish(path):
    assert publishable.problems(nbformat.read(path, as_version=4)) == []


@pytest.mark.parametrize(("lesson", "name", "dump"), [s for s in SHOWN if s[1] in SHIPPED])
def test_shown_is_shipped(lesson, name, dump):
    assert dump == SHIPPED[name], f"{name} in {lesson} is not what course_utils has"


def test_every_model_and_the_data_module_are_shown():
    shown = {name for _, name, _ in SHOWN}
    names = {name for name in dir(networks) if getattr(networks, name).__class__ is type}
    ours = {name for name in names if getattr(networks, name).__module__ == networks.__name__}
    assert ours | {"MNISTDataModule", "LossNetwork", "StylePictures", "LitStyle"} <= shown


@pytest.mark.parametrize("source", LESSONS, ids=lambda source: source.stem)
def test_cells_are_short(source):
    cells = [
        c for c in code_cells(jupytext.read(source)) if "setup" not in c.metadata.get("tags", [])
    ]
    lengths = sorted(len(cell.source.splitlines()) for cell in cells)
    assert lengths[-1] <= 40
    assert sum(length < 18 for length in lengths) >= 0.9 * len(lengths)
    assert statistics.median(lengths) <= 8


@pytest.mark.parametrize("source", exercise_sources(), ids=lambda source: source.stem)
@pytest.mark.parametrize("built", [stub_of, solution_of])
def test_cells_of_exercises_are_short(source, built):
    cells = code_cells(nbformat.read(built(source), as_version=4))[1:]  # but the set-up
    assert max(len(cell.source.splitlines()) for cell in cells) <= 40


@pytest.mark.parametrize("source", exercise_sources(), ids=lambda source: source.stem)
def test_lessons_and_exercises_lead_to_each_other(source):
    lesson = read(NOTEBOOKS / "source" / source.name)
    text = "\n".join(cell.source for cell in lesson.cells if cell.cell_type == "markdown")
    assert f"(exercises/{source.stem}.ipynb)" in text


@pytest.mark.parametrize("source", LESSONS, ids=lambda source: source.stem)
def test_every_lesson_has_its_parts(source):
    notebook = read(source)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    address = repository().removeprefix("https://github.com/")
    badge = f"colab.research.google.com/github/{address}/blob/main/notebooks/{source.stem}.ipynb"
    assert badge in notebook.cells[0].source
    assert f"git+{repository()}" in code_cells(notebook)[0].source
    assert "**Time**" in text and "**Builds on**" in text
    tags = {tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
    if not source.stem.startswith("00"):
        assert {"verdict", "result"} <= tags
        for part in ("## Recap", "## Common mistakes", "## Exercises", "## Read on"):
            assert part in text


@pytest.mark.parametrize("source", LESSONS, ids=lambda source: source.stem)
def test_verdicts_are_checked_in_the_notebook(source):
    for cell in code_cells(read(source)):
        if "verdict" in cell.metadata.get("tags", []):
            assert "assert_identical()" in cell.source
            assert "NBVAL_CHECK_OUTPUT" in cell.source


def good_notebook():
    """Return a small notebook without any fault, to plant faults in."""
    cell = nbformat.v4.new_code_cell("print(1)", execution_count=1)
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="1\n")]
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata[build.METADATA_KEY] = {"code": build.code_hash(notebook)}
    return notebook


def test_a_good_notebook_has_no_problems():
    assert publishable.problems(good_notebook()) == []


def stream(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


def shown(**bundle):
    return nbformat.v4.new_output("display_data", data=bundle)


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        (stream("reading /home/ada/data"), "path"),
        (stream("reading /root/x"), "path"),
        (stream("in C:\\Users\\ada"), "path"),
        (shown(**{"text/html": "<b>/tmp/file.png</b>"}), "path"),
        (stream("careful\n", name="stderr"), "stderr"),
        (shown(**{"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}), "widget"),
        (stream("10%\r20%"), "control characters"),
        (
            nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[]),
            "ValueError",
        ),
        (stream("x" * 700_000), "bytes"),
    ],
)
def test_a_planted_fault_is_found(output, complaint):
    notebook = good_notebook()
    notebook.cells[0].outputs.append(output)
    assert any(complaint in problem for problem in publishable.problems(notebook))


@pytest.mark.parametrize(
    "text", ["see https://x.org/home/page", "accuracy 3/10", "and/or", "/ is a sign", "a: b"]
)
def test_what_only_looks_like_a_path_passes(text):
    notebook = good_notebook()
    notebook.cells[0].outputs.append(stream(text))
    assert publishable.problems(notebook) == []


def test_cells_run_twice_or_out_of_order_are_found():
    notebook = good_notebook()
    notebook.cells[0].execution_count = 3
    assert any("in order" in problem for problem in publishable.problems(notebook))


def test_outputs_of_other_code_are_found():
    notebook = good_notebook()
    notebook.cells[0].source = "print(2)"
    assert any("make record" in problem for problem in publishable.problems(notebook))


def test_outputs_stay_with_their_code_and_go_with_other_code(tmp_path, monkeypatch):
    source, path = tmp_path / "09_x.py", tmp_path / "09_x.ipynb"
    monkeypatch.setattr(build, "notebook_of", lambda source: path)
    source.write_text("# %% [markdown]\n# # Title\n\n# %%\nprint(1)\n")
    build.write(build.build(source), path)
    recorded = nbformat.read(path, as_version=4)
    recorded.cells[1].outputs, recorded.cells[1].execution_count = [stream("1\n")], 1
    recorded.metadata[build.METADATA_KEY] = {"code": build.code_hash(recorded)}
    build.write(recorded, path)

    source.write_text("# %% [markdown]\n# # A better title\n\n# %%\nprint(1)\n")
    assert code_cells(build.build(source))[0].outputs == [stream("1\n")]
    source.write_text("# %% [markdown]\n# # Title\n\n# %%\nprint(2)\n")
    rebuilt = build.build(source)
    assert code_cells(rebuilt)[0].outputs == []
    assert build.METADATA_KEY not in rebuilt.metadata


def test_recording_leaves_widgets_out_and_the_rest_in():
    notebook = good_notebook()
    view = shown(**{"application/vnd.jupyter.widget-view+json": {}, "text/plain": "HBox()"})
    notebook.cells[0].outputs.append(view)
    notebook.metadata["widgets"] = {"state": {}}
    assert publishable.problems(notebook) != []
    record.without_widgets(notebook)
    assert publishable.problems(notebook) == []
    assert notebook.cells[0].outputs == [stream("1\n")]


def test_recording_keeps_what_a_widget_says_in_words():
    notebook = good_notebook()
    words = {"text/html": "<p>Here stand 3 sliders.</p>", "text/plain": "Here stand 3 sliders."}
    notebook.cells[0].outputs.append(
        shown(**{"application/vnd.jupyter.widget-view+json": {}, **words})
    )
    record.without_widgets(notebook)
    assert publishable.problems(notebook) == []
    assert notebook.cells[0].outputs[-1].data == words


def test_recorded_pictures_become_smaller_and_look_the_same():
    figure = plots.curves({"a": [3.0, 2.0, 1.0]}, y="loss")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    before = base64.b64encode(file.getvalue()).decode()
    notebook = good_notebook()
    notebook.cells[0].outputs.append(shown(**{"image/png": before}))
    record.with_small_pictures(notebook)
    after = notebook.cells[0].outputs[-1].data["image/png"]
    assert len(after) < 0.7 * len(before)
    pixels = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB"), dtype=int)
        for picture in (before, after)
    ]
    assert abs(pixels[0] - pixels[1]).max() < 32
