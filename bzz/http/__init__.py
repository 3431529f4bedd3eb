"""HTTP: requests read strictly, errors as problems. Only the rooms above know that it is there.

``request``
    parameters, conditions, preferences and bodies of a request
``bulk``, ``ndjson``, ``upload``
    many documents in one request: as an array or by a filter; streamed out; streamed in
``nested``
    URLs below one document
``acting``
    methods of handler classes that are asked about every operation
``problem``, ``problem_handler``
    problem details (RFC 9457), and which status each error is
"""

from __future__ import annotations

__all__: list[str] = []
