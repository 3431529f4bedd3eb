"""How the documents of one resource are shown: the one way out for everything that an answer says of them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from bzz import model as typed
from bzz.model import ALL, Change, Schema, Selection, Stored
from bzz.resource.etag import etag_of, form_of, matches
from bzz.resource.memo import MEMO

__all__ = ["View"]


class View:
    """What may be seen of the documents of a resource, and what it looks like.

    ``readable`` are the fields that are shown. With a ``to_dict()`` on the model that decides, and what it
    calls like a field that is not readable is left out. ``key`` goes into the hashes of tags. ``decode``
    makes documents of their BSON.
    """

    def __init__(
        self,
        schema: Schema,
        readable: Selection = ALL,
        *,
        key: bytes = b"",
        decode: Callable[[Sequence[bytes]], list[Stored]] | None = None,
    ) -> None:
        self.schema = schema
        self._decode = decode
        self.readable = readable
        self._is_whole = readable.is_all
        # A tag would let who knows all the rest of a document try out what it does not show.
        self._key = (
            b"" if self._is_whole else hashlib.blake2b(key, digest_size=32, person=b"bzz etag").digest()
        )
        self._mark = (
            "" if self._is_whole else hashlib.blake2b(repr(readable).encode(), digest_size=4).hexdigest()
        )

    @property
    def is_own(self) -> bool:
        """Whether the model itself writes its documents: in a thread, as that is the user's code."""
        return "to_dict" in self.schema.overrides

    async def render(self, stored: Stored) -> bytes:
        """Write one document as JSON."""
        if self.is_own:
            return await asyncio.to_thread(lambda: orjson.dumps(self.encode(stored)))
        if self._is_whole:
            return typed.encode_bytes(self.schema, stored)
        return typed.dump(self.encode(stored))

    async def render_list(self, items: Sequence[Stored]) -> bytes:
        """Write documents as a JSON array."""
        if self.is_own:
            return await asyncio.to_thread(lambda: orjson.dumps([self.encode(each) for each in items]))
        if self._is_whole:
            return typed.encode_list_bytes(self.schema, items)
        return typed.dump([self.encode(each) for each in items])

    def render_found(self, found: Sequence[bytes]) -> bytes:
        """Write documents as a JSON array, from their BSON; not for a model that writes its own."""
        return b"[%s]" % b",".join(MEMO.shown(self, found, self._show))

    def _show(self, found: Sequence[bytes]) -> list[bytes]:
        assert self._decode is not None
        documents = self._decode(found)
        if self._is_whole:
            return typed.encode_each(self.schema, documents)
        return [typed.dump(self.encode(each)) for each in documents]

    def encode(self, stored: Stored) -> Any:
        """Return what is shown of a document, for :func:`bzz.model.dump`; blocks where the model shows it."""
        if not self.is_own:
            return self.cut(stored, typed.encode_parts(self.schema, stored))
        return self.cut(stored, typed.encode_plain(typed.from_stored(self.schema, stored).to_dict()))

    def cut(self, stored: Stored, encoded: Any) -> Any:
        """Return of a document that is encoded already what may be seen of it."""
        if self._is_whole:
            return encoded
        if not self.is_own:
            return self.readable.cut(encoded)
        if not isinstance(encoded, dict):
            return encoded
        fields = {*self.schema.of_stored(stored).fields, *stored}
        return {
            name: below.cut(value) if name in fields else value
            for name, value in encoded.items()
            if not (below := self.readable.below(name)).is_none or name not in fields
        }

    def diff(self, stored: Stored, updated_fields: Mapping[str, Change]) -> dict[str, Any]:
        """Return of a diff what may be seen, as JSON values; ``stored`` is one of its documents."""
        encoded = typed.encode_diff(self.schema.of_stored(stored), updated_fields)
        return encoded if self._is_whole else self.readable.cut_diff(encoded)

    # Tags ---------------------------------------------------------------------------------------------------

    def etag(self, stored: Stored, body: bytes = b"") -> str:
        """Return the tag of a document; with a ``to_dict()`` it takes the ``body`` to tell all of it."""
        return self.tagged(stored, form_of(self.schema.of_stored(stored), body))

    def tagged(self, stored: Stored, form: str) -> str:
        """Return the tag of a document that is shown in this form."""
        return etag_of(stored, f"{form}{self._mark}" if form else "", key=self._key)

    def matches(self, tags: str, stored: Stored, *, weak: bool = False) -> bool:
        """Tell whether a document is in a state that one of the tags names."""
        return matches(tags, stored, weak=weak, key=self._key)
