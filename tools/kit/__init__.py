"""One folder from which a room without a network installs the course: `python -m tools.kit`."""
