"""Reading that is more than documents by a filter: aggregations, and how many documents there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.errors import OperationFailure

from bzz.errors import StorageError
from bzz.storage.store import Store

__all__ = ["aggregate", "estimated_count", "refused_value"]

# BadValue, and what older servers said of the same polygons.
_BAD_VALUES = frozenset({2, 17001})


async def aggregate(
    store: Store,
    pipeline: Sequence[Mapping[str, Any]],
    *,
    limit: int,
    variables: Mapping[str, Any] | None = None,
    session: Any = None,
) -> list[dict[str, Any]]:
    """The rows of an aggregation, in one piece if they are not large.

    ``limit`` is how many the pipeline gives at most, ``variables`` what its expressions call ``$$name``.
    """
    driver = store.driver()
    # Servers before 5.0 do not know the option.
    options: dict[str, Any] = {"let": dict(variables)} if variables else {}
    # Without it the server sends 101 rows, and has to be asked for the others.
    options["batchSize"] = limit + 1

    async def call(collection: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await driver.aggregate(
            collection, [dict(stage) for stage in pipeline], session=session, **options
        )
        return rows

    return await store._run(call, session)


async def estimated_count(store: Store) -> int:
    """How many documents the collection has, out of its metadata: quick, and wrong after a crash.

    Source: https://www.mongodb.com/docs/manual/reference/command/count/#accuracy-after-unexpected-shutdown
    """
    return int(await store._run(lambda collection: collection.estimated_document_count()))


def refused_value(error: StorageError) -> bool:
    """Whether MongoDB refused a command because of a value in it."""
    cause = error.__cause__
    return isinstance(cause, OperationFailure) and cause.code in _BAD_VALUES
