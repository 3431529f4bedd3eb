"""The OpenAPI 3.1 description of an Api, made from its models, and a page to read it in.

``document``
    the whole, put together from the others
``operations``, ``parameters``, ``bodies``, ``parts``, ``previews``, ``answers``
    a resource: its paths, what can be asked, sent and answered
``webhooks``
    its signals
``service``
    what belongs to no resource
``handlers``
    how it is served
"""

from __future__ import annotations

from bzz.openapi.document import Description, Mounted, openapi
from bzz.openapi.handlers import AssetHandler, DocumentHandler, PageHandler
from bzz.openapi.service import BatchTerms

__all__ = [
    "AssetHandler",
    "BatchTerms",
    "Description",
    "DocumentHandler",
    "Mounted",
    "PageHandler",
    "openapi",
]
