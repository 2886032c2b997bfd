"""Gather the site's pages in one folder, as Sphinx wants to read them."""

import re
import shutil
from pathlib import Path

import nbformat

from tools.build import course_map
from tools.execute import text_of
from tools.project import README, repository
from tools.site import api, diagnoses, front, notebooks
from tools.site.pages import SOURCE, WRITTEN, documents, exercises, lessons, relinked
from tools.site.preview import preview

SECTION = re.compile(r"\{\{readme: (.+?)\}\}")
# A fence that names the file in which its code belongs, as the recipes have it.
NAMED_FENCE = re.compile(r"^```(\w+) (\S+)$", re.MULTILINE)
NAMED = "```{{code-block}} {}\n:caption: {}\n"


def gather() -> None:
    """Write every page into Sphinx's source folder, which is made anew."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    (SOURCE / "_static").mkdir(parents=True)
    for path in sorted(WRITTEN.glob("*.md")):
        _put(path.name, _written(path))
    for page in documents():
        text = relinked(page.origin.read_text("utf-8"), page.origin, page.place)
        _put(page.place, NAMED_FENCE.sub(lambda found: NAMED.format(*found.groups()), text))
    for page in [*lessons(), *exercises()]:
        _put(page.place, nbformat.writes(notebooks.page(page)))
    _put("doctor/reference.md", api.reference())
    for place, text in diagnoses.pages():
        _put(place, text)
    _list_doctor()
    (SOURCE / "_static" / "preview.png").write_bytes(preview(SOURCE / "_static" / "style.jpg"))


def readme_section(title: str) -> str:
    """Return what the README says below a heading; raises ValueError if it has no such heading."""
    found = re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README.read_text("utf-8"), re.M | re.S
    )
    if not found:
        raise ValueError(f"The README has no section {title!r}, which a page of the site shows.")
    return found[1].strip()


def results() -> str:
    """Return the table of what each lesson's proof and test have recorded, in Markdown."""
    rows = ["| lesson | the proof says | result |", "|---|---|---|"]
    for page in lessons():
        notebook = nbformat.read(page.origin, as_version=4)
        verdict = text_of(notebook, "verdict").partition("\n")[0]
        result = text_of(notebook, "result").partition("\n")[0]
        if verdict or result:
            title = re.search(r"^# (.+)$", notebook.cells[0].source, re.MULTILINE)[1]
            rows.append(f"| [{title}]({page.place}) | {verdict or '-'} | {result or '-'} |")
    return "\n".join(rows) if len(rows) > 2 else ""


def _written(path: Path) -> str:
    """Return a page of `site/`, its tokens filled in."""
    text = path.read_text("utf-8")
    text = SECTION.sub(lambda found: relinked(readme_section(found[1]), README, path.name), text)
    text = relinked(text, path, path.name)
    if path.name == "index.md":
        text = front.filled(text, SOURCE / "_static")
    name = repository().removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{name}/blob/main/notebooks"
    tokens = {
        "repository": repository(),
        "colab": f"{colab}/{lessons()[0].origin.name}",
        "map": relinked(course_map("notebooks/"), README, path.name),
        "results": results(),
        "about": "\n".join(_about()),
    }
    for token, value in tokens.items():
        text = text.replace(f"{{{{{token}}}}}", value)
    return text


def _about() -> list[str]:
    """Return the documents that belong to no tool, `measured` last."""
    others = {Path(page.place).with_suffix("").as_posix() for page in documents()}
    others = {name for name in others if not name.startswith("doctor/")}
    return [*sorted(others | {"teaching"}), "measured"]


def _list_doctor() -> None:
    """Put the doctor's pages into the contents, in the order of their table."""
    index = SOURCE / "doctor" / "index.md"
    text = index.read_text("utf-8")
    listed = dict.fromkeys(re.findall(r"\]\(([\w-]+)\.md\)", text))
    listed |= dict.fromkeys(["diagnoses/index", "reference"])
    contents = "\n".join(listed)
    text += (
        "\nAlso: [everything that the doctor can name](diagnoses/index.md), each with a loop that "
        "has that fault, and its [functions and classes](reference.md).\n"
    )
    text += f"\n```{{toctree}}\n:hidden:\n\n{contents}\n```\n"
    index.write_text(text, encoding="utf-8")


def _put(place: str, text: str) -> None:
    path = SOURCE / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
