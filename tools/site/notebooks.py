"""Lessons and exercises as pages: links, buttons, folds and words for pictures."""

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.exercises import CHECK, answers_of
from tools.project import ROOT, SOURCES, repository, solution_of
from tools.site.pages import Page, exercises, lessons, relinked

BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\(([^)]*)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
SENTENCE = re.compile(r"(.+?[.:!?])(?=\s|$)", re.DOTALL)
PICTURES = ("image/png", "image/jpeg")
LONGEST_WORDS = 240  # for a picture


def page(source: Page) -> NotebookNode:
    """Return a notebook as the site shows it; its recorded outputs stay."""
    notebook = nbformat.read(source.origin, as_version=4)
    if source in exercises():
        _fold_answers(notebook, source.origin)
    _say_pictures(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = relinked(cell.source, source.origin, source.place)
            cell.source = BADGE.sub(lambda match: _buttons(source, match[1]), text)
        elif "setup" in cell.metadata.get("tags", []):
            _fold(cell, "The set-up cell for Colab")
    return notebook


def summary(notebook: NotebookNode) -> str:
    """Return what a notebook says about itself: its line that starts with `>`, or else its start.

    It is plain text in one line.
    """
    text = notebook.cells[0].source
    quoted = re.search(r"^> (.+)$", text, re.MULTILINE)
    paragraphs = [p for p in text.split("\n\n") if p[0] not in "#[<"]
    return plain(quoted[1] if quoted else paragraphs[0])


def plain(text: str) -> str:
    """Return Markdown as words in one line, its links as what they say."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return " ".join(re.sub(r"[`*]|<[^>]+>", "", text).split())


def _buttons(source: Page, colab: str) -> str:
    """Return the row of links at the top of a page, as HTML without a picture from elsewhere."""
    name = source.origin.name
    links = [f'<a href="{colab}">Open in Colab</a>', f'<a href="{name}" download>Notebook</a>']
    other, folder = (lessons(), "lessons") if source in exercises() else (exercises(), "exercises")
    if any(page.origin.name == name for page in other):
        target = f"../{folder}/{name.replace('.ipynb', '.html')}"
        links.append(f'<a href="{target}">{folder.removesuffix("s").capitalize()}</a>')
    links[-1] = links[-1].replace(">Exercise<", ">Exercises<")
    path = source.origin.relative_to(ROOT).as_posix()
    links.append(f'<a href="{repository()}/blob/main/{path}">On GitHub</a>')
    return f'<p class="buttons">{" ".join(links)}</p>'


def _fold(cell: NotebookNode, words: str) -> None:
    cell.metadata.setdefault("tags", []).append("hide-cell")
    _ask(cell, code_prompt_show=words, code_prompt_hide=words)


def _ask(cell: NotebookNode, **options: object) -> None:
    """Set options of myst-nb for a cell."""
    cell.metadata.setdefault("mystnb", {}).update(options)


def _fold_answers(notebook: NotebookNode, path: Path) -> None:
    """Put the worked answer to each question, with what its check says, in a fold below it."""
    source = SOURCES / "exercises" / f"{path.stem}.py"
    answers, said = answers_of(source), _recorded(solution_of(source))
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        found = CHECK.search(cell.source) if cell.cell_type == "code" else None
        if found is None:
            continue
        number = int(found[1])
        call = next(line for line in cell.source.splitlines() if CHECK.match(line))
        worked = nbformat.v4.new_code_cell(f"{answers[number]}\n\n{call}")
        worked.id, worked.outputs = f"answer-{number}", said.get(number, [])
        _fold(worked, f"Answer to question {number}")
        cells.append(worked)
    notebook.cells = cells


def _recorded(path: Path) -> dict[int, list[NotebookNode]]:
    """Return what the worked notebook's cells put out, by the question that they belong to."""
    found, waiting = {}, []
    if not path.exists():
        return found
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            waiting = []
            continue
        waiting += cell.outputs
        if match := CHECK.search(cell.source):
            found[int(match[1])], waiting = waiting, []
    return found


def _say_pictures(notebook: NotebookNode) -> None:
    """Give each picture words for readers who do not see it, unless the recording has some.

    A lesson says in its prose what is to be seen: the words are its section, and what stands next.
    """
    heading = ""
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            titles = HEADING.findall(cell.source)
            heading = plain(titles[-1]) if titles else heading
            continue
        pictures = [o for o in cell.outputs if any(k in o.get("data", {}) for k in PICTURES)]
        if pictures:
            words = _alt(pictures) or f"{heading}. {_prose_near(notebook, place)}"
            _ask(cell, image={"alt": " ".join(words.replace('"', "'").split())})


def _alt(pictures: list[NotebookNode]) -> str:
    """Return the words that were recorded with pictures, if any were."""
    said = (o.metadata.get(kind, {}).get("alt") for o in pictures for kind in PICTURES)
    return " ".join(filter(None, said))


def _prose_near(notebook: NotebookNode, place: int) -> str:
    """Return the first sentences of the prose after a cell, or the last one before it."""
    after = notebook.cells[place + 1 : place + 2]
    if after and after[0].cell_type == "markdown" and _paragraphs(after[0].source):
        return _cut(_paragraphs(after[0].source)[0])
    before = (c for c in reversed(notebook.cells[:place]) if c.cell_type == "markdown")
    paragraphs = _paragraphs(next(before).source)
    return _cut(paragraphs[-1]) if paragraphs else ""


def _paragraphs(text: str) -> list[str]:
    found = [p for p in text.split("\n\n") if p and p[0] not in "#<|`-+"]
    return [plain(p) for p in found if plain(p)]


def _cut(text: str) -> str:
    """Return as many whole sentences as make a short description."""
    words = ""
    for sentence in SENTENCE.findall(text):
        if words and len(words) + len(sentence) > LONGEST_WORDS:
            break
        words += sentence
    return words.strip() or text[:LONGEST_WORDS]


def originals() -> dict[str, Path]:
    """Return the notebooks as they are, for download, by their address on the site."""
    return {source.place: source.origin for source in [*lessons(), *exercises()]}
