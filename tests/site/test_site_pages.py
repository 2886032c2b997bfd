"""What the site is made of: links, notebooks as pages, the first page, the reference."""

import re
from html.parser import HTMLParser

import nbformat
import pytest

from tools.project import NOTEBOOKS, README, ROOT, repository
from tools.site import api, front, notebooks, pages
from tools.site.gather import readme_section

LESSON = NOTEBOOKS / "01_mlp.ipynb"


def test_links_lead_to_pages_of_the_site_or_into_the_repository():
    text = (
        "[next](02_autoencoder.ipynb#4-see) [do](exercises/01_mlp.ipynb) [map](../README.md) "
        "[pins](../constraints.txt) [tools](../tools) [web](https://arxiv.org/abs/1) [here](#a) "
        "[gone](no_such_lesson.ipynb)"
    )
    assert re.findall(r"\((.*?)\)", pages.relinked(text, LESSON, "lessons/01_mlp.ipynb")) == [
        "02_autoencoder.ipynb#4-see",
        "../exercises/01_mlp.ipynb",
        "../index.md",
        f"{repository()}/blob/main/constraints.txt",
        f"{repository()}/tree/main/tools",
        "https://arxiv.org/abs/1",
        "#a",
        "no_such_lesson.ipynb",
    ]


def test_every_lesson_and_exercise_is_a_page():
    places = {page.place for page in [*pages.lessons(), *pages.exercises()]}
    assert {f"lessons/{path.name}" for path in NOTEBOOKS.glob("[0-9]*.ipynb")} <= places
    assert "exercises/01_mlp.ipynb" in places


def test_a_lesson_on_the_site_fetches_no_badge_and_says_its_pictures():
    (source,) = (page for page in pages.lessons() if page.origin == LESSON)
    notebook = notebooks.page(source)
    assert "badge.svg" not in notebook.cells[0].source
    assert '<a href="01_mlp.ipynb" download>' in notebook.cells[0].source
    shown = [
        cell.metadata["mystnb"]["image"]["alt"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        and any("image/png" in output.get("data", {}) for output in cell.outputs)
    ]
    assert len(set(shown)) == len(shown) > 5
    assert all(len(words) > 20 and '"' not in words for words in shown)


def test_words_that_are_recorded_with_a_picture_stay():
    output = nbformat.v4.new_output("display_data", {"image/png": ""})
    output.metadata["image/png"] = {"alt": "Two falling curves."}
    cell = nbformat.v4.new_code_cell("", outputs=[output])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), cell])
    notebooks._say_pictures(notebook)
    assert cell.metadata["mystnb"]["image"]["alt"] == "Two falling curves."


def test_answers_are_in_a_fold_below_their_questions():
    (source,) = (page for page in pages.exercises() if page.origin.name == "01_mlp.ipynb")
    cells = notebooks.page(source).cells
    checks = [
        place
        for place, cell in enumerate(cells)
        if re.search(r"^q\d+\.check", cell.source, re.MULTILINE)
        and "hide-cell" not in cell.metadata.get("tags", [])
    ]
    assert len(checks) == 5
    for place in checks:
        answer = cells[place + 1]
        assert "hide-cell" in answer.metadata["tags"] and "..." not in answer.source
    assert not any("hide-cell" in cells[place].metadata.get("tags", []) for place in checks)


def test_the_first_page_shows_what_is_recorded_and_leaves_out_what_is_not(tmp_path, monkeypatch):
    text = (pages.WRITTEN / "index.md").read_text("utf-8")
    whole = front.filled(text, tmp_path)
    assert "optimizer.zero_grad()" in whole and "configure_optimizers" in whole

    def bare(name):
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = []
        return notebook

    monkeypatch.setattr(front, "lesson", bare)
    without = front.filled(text, tmp_path)
    assert "The proof" not in without and "configure_optimizers" in without
    assert "{{" not in re.sub(r"\{\{(repository|colab|map|about)\}\}", "", without)


def test_a_lesson_that_lost_what_the_first_page_shows_is_an_error():
    with pytest.raises(front.FrontError, match="no cell has it"):
        front.cell(nbformat.v4.new_notebook(), "report = compare(raw, port)")


def test_the_reference_has_all_that_the_doctor_exports_with_its_words():
    import course_utils.parity as parity

    text = api.reference()
    for name in parity.__all__:
        assert f"## `{name}`" in text
        assert parity.__dict__[name].__doc__.splitlines()[0] in text
    assert "### `Report.assert_identical`" in text and "Raise" in text


def test_sections_of_the_readme_are_found_or_missed_by_name():
    assert "course_utils.train" in readme_section("Training from the command line")
    with pytest.raises(ValueError, match="no section 'Nowhere'"):
        readme_section("Nowhere")
    assert README.parent == ROOT


def test_the_page_for_what_is_not_found_needs_nothing():
    class Tags(HTMLParser):
        found: list = []

        def handle_starttag(self, tag, attrs):
            self.found.append((tag, dict(attrs)))

    parser = Tags()
    parser.feed((pages.WRITTEN / "404.html").read_text("utf-8"))
    assert not {"img", "script"} & {tag for tag, _ in parser.found}
    assert [attrs["href"] for tag, attrs in parser.found if tag == "link"] == ["data:,"]
    links = [attrs["href"] for tag, attrs in parser.found if tag == "a"]
    assert links and all(link.startswith("{{root}}") for link in links)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("octocat/my-course", "https://octocat.github.io/my-course/"),
        ("Octocat/octocat.github.io", "https://octocat.github.io/"),
    ],
)
def test_where_github_shows_a_repository(name, address, monkeypatch):
    monkeypatch.setattr(pages, "repository", lambda: f"https://github.com/{name}")
    assert pages.site_address() == address
