"""The web site: pages gathered from all over the repository, built by Sphinx, and checked."""
