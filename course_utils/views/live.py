"""A box of widgets that says in words what it is, where no widget runs or its kernel is gone."""

from html import escape

from ipywidgets import HBox, Layout

from course_utils.parity.looks import framed

# JupyterLab marks every widget whose kernel was restarted; there, and only there, this is shown.
GONE = '<p class="asleep">The kernel was restarted: run the cells down to this one again.</p>'
STYLE = """\
div.shown .asleep{display:none;color:var(--bad);font-weight:600}
.jupyter-widgets-disconnected .shown .asleep{display:block}
"""


class LiveBox(HBox):
    """Widgets beside each other, one below the other where there is no room.

    `words` say what they are, where a notebook is only displayed.
    """

    def __init__(self, children, words: str):
        super().__init__(children, layout=Layout(flex_flow="row wrap"))
        self.words = words

    def _repr_mimebundle_(self, **kwargs) -> dict:
        bundle = super()._repr_mimebundle_(**kwargs)
        html = framed(f'<p class="soft">{escape(self.words)}</p>')
        return {**bundle, "text/plain": self.words, "text/html": html}


def live(html: str, style: str = "") -> str:
    """Return HTML for a widget to show, with the line that says when its kernel is gone."""
    return framed(html + GONE, STYLE + style)
