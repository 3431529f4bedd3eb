"""Models as bzz reads them: schema, codec, bodies, documents, diffs, queries. Pure: no I/O, no HTTP."""

from __future__ import annotations

# Each of these registers how its fields travel.
from bzz.model import containers, dynamic, embedding, generic, geo, numeric, references, scalars, temporal  # noqa: F401
from bzz.model.body import parse_form, parse_json
from bzz.model.codec import (
    Assignments,
    decode_form,
    decode_object,
    dump,
    encode,
    encode_bytes,
    encode_diff,
    encode_list_bytes,
    encode_parts,
    encode_plain,
    encode_value,
    key_filter,
    key_from_text,
    key_to_text,
)
from bzz.model.diff import Change, apply, diff, load
from bzz.model.document import (
    Update,
    assign,
    changes,
    direct_update,
    from_stored,
    new_document,
    pending_references,
    pending_sequences,
    to_stored,
    validate,
)
from bzz.model.equality import same
from bzz.model.field import FieldSpec
from bzz.model.patch import apply_operations, merge
from bzz.model.query import (
    AggregateQuery,
    Aggregation,
    Link,
    ListQuery,
    QueryRules,
    compile_aggregate,
    compile_query,
    encode_expanded,
)
from bzz.model.revising import merge_assignments, revise
from bzz.model.schema import Path, Schema, Stored

__all__ = [
    "AggregateQuery",
    "Aggregation",
    "Assignments",
    "Change",
    "FieldSpec",
    "Link",
    "ListQuery",
    "Path",
    "QueryRules",
    "Schema",
    "Stored",
    "Update",
    "apply",
    "apply_operations",
    "assign",
    "changes",
    "compile_aggregate",
    "compile_query",
    "decode_form",
    "decode_object",
    "diff",
    "direct_update",
    "dump",
    "encode",
    "encode_bytes",
    "encode_diff",
    "encode_expanded",
    "encode_list_bytes",
    "encode_parts",
    "encode_plain",
    "encode_value",
    "from_stored",
    "key_filter",
    "key_from_text",
    "key_to_text",
    "load",
    "merge",
    "merge_assignments",
    "new_document",
    "parse_form",
    "parse_json",
    "pending_references",
    "pending_sequences",
    "revise",
    "same",
    "to_stored",
    "validate",
]
