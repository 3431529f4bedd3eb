"""A model that can be reached, and the life of one operation on it. No HTTP.

``operation``
    what is asked of a resource, and what came of it
``resource``
    the steps of an operation, in order, and who is told of each
``documents``, ``updates``, ``revision``
    documents found, created and deleted; changed; what a change makes of a document
``listing``, ``page``
    lists, and how they are shown
``access``, ``rows``, ``view``
    which fields clients may set; which documents there are for whom; what may be seen, and how it looks
``expanding``
    what documents refer to, as its own resource shows it
``etag``, ``preview``
    which state of a document somebody means; what a write would do
``bulk_change``, ``bulk``, ``bulk_item``
    many documents at once: all that match a filter, all or nothing, what became of each
``stream``
    a whole list, piece by piece
``nested`` and what begins like it
    properties of a document as resources: where a path leads, what it makes of the document, how it is done
``overridden``
    what a model overrides, run as its author wrote it
"""

from __future__ import annotations

from bzz.resource.resource import Action, Operation, Options, Outcome, Resource

__all__ = ["Action", "Operation", "Options", "Outcome", "Resource"]
