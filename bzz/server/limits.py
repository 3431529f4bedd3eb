"""What one client may ask of the server, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """The limits of a public server; sizes in bytes, times in seconds.

    ``idle_timeout`` bounds three waits: for the next request on an open connection, for the headers of a
    request to be complete, and for a client that does not read its answer. ``body_timeout`` bounds the
    arrival of one body. A body of NDJSON that a resource takes as a stream is not bounded as a whole: there
    ``body_timeout`` bounds the wait for more of it, and each of its lines is at most 1 MiB.
    ``max_in_flight`` counts the requests that one process works on at a time.
    """

    max_body_size: int = 1024 * 1024
    max_header_size: int = 16 * 1024
    idle_timeout: float = 30.0
    body_timeout: float = 30.0
    max_in_flight: int = 1000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"{name} must be positive, not {value}")
