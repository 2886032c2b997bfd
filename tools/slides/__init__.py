"""Each lesson as a deck of slides, from its notebook: `python -m tools.slides`."""
