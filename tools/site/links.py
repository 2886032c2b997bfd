"""Ask for every address elsewhere that the site links to; this needs a network."""

import sys
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tools.project import repository
from tools.site.pages import site_address

AGENT = "Mozilla/5.0 (compatible; the link check of a course)"
TIMEOUT = 60  # seconds
# Not for programs, says the server; a reader gets the page.
REFUSED = {HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.METHOD_NOT_ALLOWED}


def answer(address: str) -> str:
    """Return `ok`, or what is wrong with an address."""
    try:
        with urlopen(Request(address, headers={"User-Agent": AGENT}), timeout=TIMEOUT):
            return "ok"
    except HTTPError as error:
        refused = error.code in REFUSED
        return f"ok ({error.code}: not for programs)" if refused else f"{error.code} {error.reason}"
    except (URLError, OSError, ValueError) as error:
        return f"no answer: {getattr(error, 'reason', error)}"


def report(addresses: dict[str, list[str]]) -> int:
    """Print what each address answers; return 1 if one leads nowhere.

    The course's own addresses are left out: they answer once it is published.
    """
    asked = sorted(a for a in addresses if not a.startswith((repository(), site_address())))
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(asked, pool.map(answer, asked), strict=True))
    dead = {address: said for address, said in answers.items() if not said.startswith("ok")}
    for address, said in dead.items():
        print(f"{address}: {said} (in {', '.join(addresses[address][:3])})", file=sys.stderr)
    print(f"{len(asked)} addresses elsewhere, {len(dead)} of them lead nowhere.")
    return 1 if dead else 0
