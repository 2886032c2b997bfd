"""What is shown reads in light, in dark and without styles, and styles nothing else."""

import re
from itertools import combinations

import pytest
from sanitised import sanitised, text_of, texts_of

from course_utils.parity.looks import (
    COLOURS,
    PALETTE_OF_TEN,
    TINTS,
    Html,
    facts,
    framed,
    ink_of,
    ink_on,
    table,
    variables,
)
from course_utils.parity.report import MARKS, Report
from course_utils.views.cost import Costs
from course_utils.views.progress import EpochTable
from course_utils.views.side_by_side import side_by_side

LOOP = "loss.backward()\noptimizer.step()\n"
PORT = "class Lit(L.LightningModule):\n    def training_step(self, x):\n        return x.sum()\n"
CODE = ("ink", "soft", "bad", "keyword", "text", "number", "name")
TEXT_ON = {  # the grounds that each ink may stand on
    "ground": ("ink", "soft", "good", "close", "bad", *CODE),
    "raised": ("ink", "soft"),
    "lit": CODE,
}


def light_of(colour):
    """Return the relative luminance of `#rrggbb`, as WCAG 2 defines it."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    dark, light = sorted(map(light_of, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def pairs_of(colours, tints):
    """Yield the name, the ground and the ink of all text that can be shown, in both themes."""
    for theme in (0, 1):
        for ground, inks in TEXT_ON.items():
            for ink in inks:
                yield f"{ink} on {ground}", colours[ground][theme], colours[ink][theme]
        for name, (ground, ink) in tints.items():
            yield name, ground[theme], ink[theme]


def unreadable(colours=COLOURS, tints=TINTS):
    return {name for name, ground, ink in pairs_of(colours, tints) if contrast(ground, ink) < 4.5}


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#ffffff", "#777777") == pytest.approx(4.48, abs=0.005)


def test_all_text_has_enough_contrast_in_light_and_in_dark():
    assert unreadable() == set()


def test_too_little_contrast_is_found():
    assert unreadable(COLOURS | {"good": COLOURS["good"]._replace(dark="#00735c")}) == {
        "good on ground"
    }
    assert "soft on lit" in unreadable(
        COLOURS | {"soft": COLOURS["soft"]._replace(light="#777777")}
    )
    assert unreadable(tints=TINTS | {"blue": TINTS["blue"][::-1][:1] * 2}) == {"blue"}


def test_the_colours_of_plots_can_be_made_dark_enough_for_text():
    for colour in PALETTE_OF_TEN:
        assert contrast(ink_of(colour), "#ffffff") >= 4.5
    assert contrast("#d55e00", "#ffffff") < 4.5
    assert ink_of("#0072b2") == "#0072b2"  # as it was, where that is dark enough


def test_ink_on_any_ground_reads():
    grounds = [f"#{level:02x}{level:02x}{level:02x}" for level in range(0, 256, 5)]
    assert min(contrast(ink_on(ground), ground) for ground in grounds) >= 4.5


def report(verdict="identical"):
    facts, steps = [("weights", "all `6`")], (3, 3)
    return Report(verdict, ("a", "b"), steps, facts, None, None, ["a < b"], 0.0, ([], []))


def progress():
    training = EpochTable(2)
    training.rows.append({"epoch": 1, "loss": 0.5, "seconds": 2.5})
    training.advance(1)
    return training._html()


SHOWN = {
    "side by side": lambda: side_by_side(LOOP, PORT)._repr_html_(),
    "a listing": lambda: side_by_side(LOOP)._repr_html_(),
    "report": lambda: report()._repr_html_(),
    "other report": lambda: report("different")._repr_html_(),
    "cost": lambda: Costs({"raw": [1.0], "port": [2.0]}, 10)._repr_html_(),
    "progress": progress,
}
each_view = pytest.mark.parametrize("page", SHOWN.values(), ids=SHOWN)


@each_view
def test_a_view_styles_nothing_but_itself(page):
    (style,) = re.findall(r"<style>(.*?)</style>", page(), re.DOTALL)
    rules = re.sub(r"@(container|supports)[^{]*\{", "", style)
    selectors = re.findall(r"([^{}]+)\{[^{}]*\}", rules)
    assert len(selectors) > 10
    assert [s for s in selectors if any(".shown" not in one for one in _parts(s))] == []


def _parts(selector):
    """Return the alternatives of a selector, those inside `:is(…)` left together."""
    return re.sub(r"\([^()]*\)", lambda inner: inner[0].replace(",", " "), selector).split(",")


def rules_of(page):
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    found = {}
    for selector, body in re.findall(r"([^{}]+)\{([^{}]*)\}", style):
        found.setdefault(selector.strip(), []).append(body)
    return found


def test_views_on_one_page_do_not_restyle_each_other():
    """What two of them say about one selector is the same: the later one changes nothing."""
    rules = [rules_of(page()) for page in SHOWN.values()]
    for one, other in combinations(rules, 2):
        for selector in one.keys() & other.keys():
            assert one[selector] == other[selector], selector
    words = {verdict: rules_of(report(verdict)._repr_html_()) for verdict in MARKS}
    assert len({str(rules) for rules in words.values()}) == 1
    marks = {re.search(r'<p class="(\w+)"', report(v)._repr_html_())[1] for v in MARKS}
    assert marks == {"good", "close", "bad"}


@each_view
def test_a_view_takes_its_colours_from_the_one_place(page):
    (style,) = re.findall(r"<style>(.*?)</style>", page(), re.DOTALL)
    assert re.findall(r"#[0-9a-f]{3,8}\b", style.replace(variables(), "")) == []
    named = set(re.findall(r"var\(--([\w-]+)", style)) - {"i"}
    assert named - set(re.findall(r"--([\w-]+):", variables())) == set()
    body = page().replace(style, "")
    assert re.findall(r"(?:color|background)[:=]", body) == []


@each_view
def test_a_view_says_the_same_without_styles(page):
    bare = sanitised(page())
    assert not re.search(r"<style|class=|style=|--ink", bare)
    assert text_of(bare) == text_of(page())


@each_view
def test_a_view_has_no_id_and_no_script(page):
    """So two of them on a page cannot get in each other's way."""
    assert re.findall(r"<script|\bid=|\bon\w+=", page()) == []


def test_a_table_escapes_what_is_not_html():
    page = table(("<a>", "b"), [("<b>x</b>", Html("<i>y</i>"))], left=(0,))
    assert "&lt;a&gt;" in page and "&lt;b&gt;x&lt;/b&gt;" in page and "<i>y</i>" in page
    assert '<td align="left">&lt;b' in page and "<td><i>" in page
    assert texts_of(page, "td") == ["<b>x</b>", "y"]


def test_facts_show_code_between_backticks():
    page = facts([("a < b", "call `f(x)` & go")])
    assert "<code>f(x)</code> &amp; go" in page and "a &lt; b" in page


def test_both_themes_know_who_says_light_or_dark():
    """JupyterLab and Sphinx themes say it in an attribute; else the reader's machine does."""
    page = framed("x")
    for attribute in ("data-jp-theme-light=true", "data-theme=light"):
        assert re.search(rf"\[{attribute}\][^{{]*\.shown\{{color-scheme:light\}}", page)
    for attribute in ("data-jp-theme-light=false", "data-theme=dark"):
        assert re.search(rf"\[{attribute}\][^{{]*\.shown\{{color-scheme:dark\}}", page)
    assert ".shown{color-scheme:light dark}" in page
