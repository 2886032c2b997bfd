"""Words from elsewhere (a server, a file, another library), made fit to be shown."""

LONGEST = 300  # characters: a few lines


def printable(foreign: object, longest: int = LONGEST) -> str:
    r"""Return a text that takes one line and steers no terminal, however it came in.

    Line ends, escape sequences, marks that turn the direction of writing and all else that cannot
    be seen are spelled out, as in `\x1b`; what is longer than `longest` characters is cut.
    """
    text = str(foreign)
    # Cut before and after: a text of megabytes is not spelled out, and spelling out makes longer.
    shown = "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode()
        for one in text[: longest + 1]
    )
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
