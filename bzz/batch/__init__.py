"""A batch of operations is a plan: run one after another, or all in one transaction.

>>> import mongoengine
>>> from bzz.resource import Resource
>>> class Parcel(mongoengine.Document):
...     weight = mongoengine.IntField()
>>> directory = Directory({"parcel": Resource(Parcel, name="parcel")}, prefix="/api")
>>> request = read_request(
...     {"name": "nightly", "operations": [{"method": "POST", "path": "/api/parcel", "body": {"weight": 3}}]},
...     directory,
... )
>>> batch = Batch(request)
>>> batch.name, batch.plan[0].method, batch.plan[0].resource.name
('nightly', 'POST', 'parcel')

``await batch.run()`` then does it.
"""

from __future__ import annotations

from bzz.batch.directory import Directory
from bzz.batch.plan import BatchRequest, Limits, PlannedOperation, read_request
from bzz.batch.report import report
from bzz.batch.runner import Batch, Entry

__all__ = [
    "Batch",
    "BatchRequest",
    "Directory",
    "Entry",
    "Limits",
    "PlannedOperation",
    "read_request",
    "report",
]
