"""Small real applications; each is a package that runs with ``python -m examples.NAME``."""
