"""Build the web site into `build/site`: `python -m tools.site`; --links asks the network, too."""

import argparse
import os
import shutil
import subprocess
import sys
import time

from tools.project import ROOT
from tools.site import notebooks
from tools.site.check import external, problems
from tools.site.pages import DOCTREES, OUT, SOURCE, WRITTEN, site_address

SERVE = "python -m http.server --directory build/site"


def build() -> list[str]:
    """Build every page; return what is wrong with them, a line each."""
    from tools.site.gather import gather

    shutil.rmtree(OUT, ignore_errors=True)
    shutil.rmtree(DOCTREES, ignore_errors=True)
    gather()
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    command += ["-c", str(WRITTEN), "-d", str(DOCTREES), str(SOURCE), str(OUT)]
    environment = {**os.environ, "COURSE_SITE_SOURCE": str(SOURCE)}
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        return ["Sphinx found what stands above."]
    for place, origin in notebooks.originals().items():
        shutil.copyfile(origin, OUT / place)
    lost = (WRITTEN / "404.html").read_text("utf-8")
    root = site_address().split("/", 3)[3]
    (OUT / "404.html").write_text(lost.replace("{{root}}", f"/{root}"), encoding="utf-8")
    (OUT / ".nojekyll").touch()
    for leftover in (OUT / "_static").glob("*.html"):  # the theme's own templates
        leftover.unlink()
    return problems(OUT, site_address())


def main() -> int:
    """Build the site, say what is wrong with it, or where it is."""
    parser = argparse.ArgumentParser(description="Build the web site, and check its links.")
    parser.add_argument("--links", action="store_true", help="ask for every address elsewhere, too")
    wanted = parser.parse_args()
    start = time.monotonic()
    found = build()
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        return 1
    pages = sum(1 for _ in OUT.rglob("*.html"))
    size = sum(path.stat().st_size for path in OUT.rglob("*") if path.is_file()) / 1e6
    print(
        f"{pages} pages, {size:.1f} MB, built in {time.monotonic() - start:.0f} s. Open "
        f"{(OUT / 'index.html').relative_to(ROOT)}, or, for a search that shows more than titles:\n"
        f"  {SERVE}"
    )
    if wanted.links:
        from tools.site.links import report

        return report(external(OUT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
