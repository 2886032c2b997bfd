"""Sphinx's settings for the site; `python -m tools.site` gathers its pages and builds it."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.project import repository
from tools.site.pages import SOURCE, site_address

project = "From Loops to Lightning"
author = "The From Loops to Lightning authors"
copyright = author
language = "en"
site_description = (
    "A free notebook course: plain PyTorch training loops, their ports to Lightning, and a proof "
    "that both compute the same, bit for bit."
)

extensions = ["myst_nb", "sphinx_copybutton", "tools.site.sphinx_parts"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "gfm"
exclude_patterns = ["jupyter_execute", "**/.ipynb_checkpoints"]
# What a page of the course does not have is an error, not a warning.
nitpicky = True
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "sphinx_book_theme"
html_title = project
html_baseurl = site_address()
gathered = os.environ.get("COURSE_SITE_SOURCE", str(SOURCE))
html_static_path = ["_static", f"{gathered}/_static"]
html_css_files = ["course.css"]
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}  # else the theme complains in the console
html_use_index = False
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None
html_permalinks_icon = "#"
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = False
html_theme_options = {
    "repository_url": repository(),
    "repository_branch": "main",
    "use_repository_button": True,
    "use_issues_button": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "navbar_start": [],  # no bar above the page: the search stands at its side
    "navbar_center": [],
    "navbar_end": [],
    "navbar_persistent": [],
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "logo": {"text": project, "image_light": "_static/logo.svg", "image_dark": "_static/logo.svg",
             "alt_text": ""},
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}  # fmt: skip


def setup(app):
    """Make the site's description known to the parts that write previews."""
    app.add_config_value("site_description", site_description, "html", str)
