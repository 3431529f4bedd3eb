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
    encode_each,
    encode_list_bytes,
    encode_parts,
    encode_plain,
    encode_value,
    key_filter,
    key_from_text,
    key_to_text,
    read_key,
    write_key,
)
from bzz.model.decoding import Decoder, decoder_of
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
from bzz.model.nested import Property, properties
from bzz.model.patch import apply_operations, merge
from bzz.model.query import (
    AggregateQuery,
    Aggregation,
    Link,
    ListQuery,
    QueryRules,
    compile_aggregate,
    compile_parts,
    compile_query,
    encode_expanded,
)
from bzz.model.revising import merge_assignments, revise
from bzz.model.schema import Path, Schema, Stored
from bzz.model.selection import ALL, NONE, Selection, changed_outside, named_outside

__all__ = [
    "ALL",
    "NONE",
    "AggregateQuery",
    "Aggregation",
    "Assignments",
    "Change",
    "Decoder",
    "FieldSpec",
    "Link",
    "ListQuery",
    "Path",
    "Property",
    "QueryRules",
    "Schema",
    "Selection",
    "Stored",
    "Update",
    "apply",
    "apply_operations",
    "assign",
    "changed_outside",
    "changes",
    "compile_aggregate",
    "compile_parts",
    "compile_query",
    "decode_form",
    "decode_object",
    "decoder_of",
    "diff",
    "direct_update",
    "dump",
    "encode",
    "encode_bytes",
    "encode_diff",
    "encode_each",
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
    "named_outside",
    "new_document",
    "parse_form",
    "parse_json",
    "pending_references",
    "pending_sequences",
    "properties",
    "read_key",
    "revise",
    "same",
    "to_stored",
    "validate",
    "write_key",
]
