"""HTML as GitHub shows it: a few elements and attributes stay, styles and classes go."""

import re
from html import escape
from html.parser import HTMLParser

# After the allow-list of GitHub's html-pipeline.
ELEMENTS = """
    h1 h2 h3 h4 h5 h6 br b i strong em a pre code img tt div ins del sup sub p picture ol ul table
    thead tbody tfoot blockquote dl dt dd kbd q samp var hr ruby rt rp li tr td th s strike summary
    details caption figure figcaption abbr bdo cite dfn mark small source span time wbr
"""
ATTRIBUTES = """
    align alt aria-describedby aria-hidden aria-label aria-labelledby colspan dir headers height
    href hspace lang name open role rowspan scope span src start summary tabindex title type valign
    value vspace width
"""
ELEMENTS, ATTRIBUTES = set(ELEMENTS.split()), set(ATTRIBUTES.split())
EMPTY = {"br", "hr", "img", "wbr", "source"}
WITHOUT_CONTENT = {"script", "style"}


class _Sanitiser(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.kept, self.text, self.skipped = [], [], 0

    def handle_starttag(self, tag, attrs):
        if tag in WITHOUT_CONTENT:
            self.skipped += 1
        elif tag in ELEMENTS and not self.skipped:
            kept = ((n, v) for n, v in attrs if n in ATTRIBUTES)
            kept = "".join(f' {n}="{escape(v or "")}"' for n, v in kept)
            self.kept.append(f"<{tag}{kept}>")

    def handle_endtag(self, tag):
        if tag in WITHOUT_CONTENT:
            self.skipped -= 1
        elif tag in ELEMENTS - EMPTY and not self.skipped:
            self.kept.append(f"</{tag}>")

    def handle_data(self, data):
        if not self.skipped:
            self.kept.append(escape(data, quote=False))
            self.text.append(data)


def sanitised(page):
    """Return what is left of a page on GitHub."""
    parser = _Sanitiser()
    parser.feed(page)
    parser.close()
    return "".join(parser.kept)


def text_of(page):
    """Return the text of a page, its line breaks and spaces as they are in the source."""
    parser = _Sanitiser()
    parser.feed(page)
    parser.close()
    return "".join(parser.text)


def texts_of(page, tag):
    """Return the text in each element of one kind, in order."""
    found = re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", page, re.DOTALL)
    return [text_of(inner) for inner in found]
