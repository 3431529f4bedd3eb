"""What the performance claims rest on: ``make bench``, or ``python -m bench --help``."""
