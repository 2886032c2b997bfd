"""Each lesson as a deck: a slide a section, nothing from a network, nothing left out."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from tools.project import notebook_of, sources
from tools.slides import decks as slides
from tools.slides.rules import ROOM, lines, slide_types


def test_headings_begin_slides_and_what_does_not_fit_goes_below():
    long = new_code_cell("\n".join(f"a{n} = {n}" for n in range(ROOM - 6)))
    cells = [
        new_markdown_cell("# Title\n\nWhat it is about."),
        new_code_cell("print(1)", metadata={"tags": ["setup"]}),
        new_markdown_cell("## 1. First"),
        new_markdown_cell("A sentence that leads to code."),
        long,
        new_markdown_cell("This one leads to more of it."),
        long,
        new_markdown_cell("### Smaller"),
        new_code_cell(""),
    ]
    assert slide_types(cells) == [
        "slide", "skip", "slide", "-", "-", "subslide", "-", "subslide", "skip"]  # fmt: skip


def test_outputs_take_room_and_long_ones_do_not_take_all():
    picture = new_code_cell("show()", outputs=[new_output("display_data", {"image/png": "…"})])
    printed = new_output("stream", name="stdout", text="line\n" * 500)
    assert lines(picture) > 10
    assert lines(new_code_cell("run()", outputs=[printed])) < ROOM


@pytest.fixture
def reveal(tmp_path):
    """Stand in for the folder of reveal.js: only that it is copied matters here."""
    folder = tmp_path / "reveal.js"
    for name in ("dist/theme/white.css", "plugin/notes/notes.js"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("a {}")
    for name in ("LICENSE", "dist/reveal.css", "dist/reveal.js"):
        (folder / name).write_text("b {}")
    return folder


def test_a_lessons_deck_holds_all_its_text_and_fetches_nothing(tmp_path, reveal):
    path = notebook_of(sources()[0])
    (made,) = slides.decks([path], reveal, tmp_path / "out")
    page = made.read_text("utf-8")
    assert page.count("<section") > 10 and not slides.FETCHED.search(page)
    for name in re.findall(r'(?:src|href)="(reveal/[^"]+)"', page):
        assert (tmp_path / "out" / name).is_file(), name
    shown = re.sub(r"<[^>]+>|\s", "", page)
    for cell in nbformat.read(path, as_version=4).cells:
        heading = re.match(r"#+ ([\w. ]+)", cell.source)
        if heading and cell.cell_type == "markdown":
            assert re.sub(r"\s", "", heading[1]) in shown
    assert "slides" in (tmp_path / "out" / "index.html").read_text("utf-8").lower()


@pytest.mark.parametrize(
    "html",
    ['<img src="https://example.org/a.png">', "<script src='//example.org/a.js'></script>"],
)
def test_a_deck_that_would_fetch_something_is_refused(html):
    notebook = nbformat.v4.new_notebook(cells=[new_markdown_cell(f"# T\n\n{html}")])
    with pytest.raises(slides.SlidesError, match="would fetch"):
        slides.deck(notebook, "T")


def test_links_lead_to_other_decks_or_nowhere():
    text = "# T\n\n[one](01_mlp.ipynb#a) [two](exercises/01_mlp.ipynb) [three](https://a.org)"
    page = slides.deck(nbformat.v4.new_notebook(cells=[new_markdown_cell(text)]), "T")
    assert 'href="01_mlp.html"' in page and 'href="https://a.org"' in page
    assert "exercises/01_mlp" not in page and "two" in page


def test_without_reveal_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setattr(slides, "find_spec", lambda name: None)
    with pytest.raises(slides.SlidesError, match="make slides"):
        slides.reveal_folder()


def test_the_package_has_what_a_deck_needs():
    pytest.importorskip("sphinx_revealjs", reason="reveal.js: `make slides` installs it")
    for name in slides.FROM_REVEAL:
        assert (slides.reveal_folder() / name).exists()
