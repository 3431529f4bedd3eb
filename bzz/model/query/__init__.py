"""Queries: text parameters of a URL into what MongoDB is asked, and nothing of a client's text into its keys.

``compiling``
    all parameters of a list request into one :class:`ListQuery`
``rules``
    what may be asked of a resource, out of what its model has
``predicates``, ``places``
    conditions on fields; those on geographic ones
``parameters``, ``paths``
    texts within their budgets; dotted names of fields
``sorting``, ``cursors``
    in which order, and from where on: keysets and the signed texts that they travel in
``projection``, ``expansion``
    which fields, and which references are followed
``aggregation``
    pipelines that a developer wrote, with typed parameters
"""

from __future__ import annotations

from bzz.model.query.aggregation import Aggregation
from bzz.model.query.compiling import (
    AggregateQuery,
    ListQuery,
    compile_aggregate,
    compile_parts,
    compile_query,
)
from bzz.model.query.expansion import Link, encode_expanded
from bzz.model.query.rules import QueryRules

__all__ = [
    "AggregateQuery",
    "Aggregation",
    "Link",
    "ListQuery",
    "QueryRules",
    "compile_aggregate",
    "compile_parts",
    "compile_query",
    "encode_expanded",
]
