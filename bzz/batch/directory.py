"""Which resource, and which document of it, a path of a batch means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from bzz import model as typed
from bzz.errors import BodyError, MissingDocumentError
from bzz.resource import Action, Resource
from bzz.resource.nested import NestedResource, nested_at

__all__ = ["METHODS", "Directory", "Target"]

#: What a method means on a collection (False) and on one document of it (True).
METHODS: Mapping[tuple[str, bool], Action] = {
    ("GET", False): "get_list",
    ("POST", False): "create_instance",
    ("GET", True): "get_instance",
    ("PUT", True): "update_instance",
    ("PATCH", True): "update_instance",
    ("DELETE", True): "delete_instance",
}


class Target(NamedTuple):
    """What a path leads to: a resource, the key of a document if it names one, and the query parameters."""

    resource: Resource
    key: str | None
    arguments: dict[str, list[str]]

    def action(self, method: str) -> Action | None:
        """Return what a method means there, None if nothing."""
        if method == "POST" and self.resource.is_only:
            return "create_instance"
        return METHODS.get((method, self.key is not None))


class Directory:
    """The resources that the paths of a batch can lead to.

    ``resources`` by name is looked at for each path, so that it may still grow. A path is written as in a
    request, with or without ``prefix``. ``batch_path`` is where batches themselves are mounted.
    """

    def __init__(
        self, resources: Mapping[str, Resource], *, prefix: str = "", batch_path: str | None = None
    ) -> None:
        self.resources = resources
        self.prefix = prefix
        self.batch_path = batch_path

    def collection(self, resource: Resource) -> str:
        """Return the path of a resource's collection, prefix included."""
        return resource.path or f"{self.prefix}/{resource.name}"

    def find(self, path: str) -> Target:
        """Resolve a path such as ``/user/KEY`` or ``/user?page=2``, with the KEY percent-encoded.

        Raises ValueError, whose text is meant for the author of the batch.
        """
        plain, _, query = path.partition("?")
        if not plain.startswith("/") or "#" in path:
            raise ValueError("a path starts with / and has no fragment")
        candidates = [plain.removesuffix("/")]
        if self.prefix and plain.startswith(f"{self.prefix}/"):
            candidates.insert(0, candidates[0].removeprefix(self.prefix))
        for candidate in candidates:
            if self.batch_path is not None and candidate in {self.batch_path, self.prefix + self.batch_path}:
                raise ValueError("a batch cannot be an operation of a batch")
            resource, key = self._lookup(candidate)
            if resource is not None:
                return Target(resource, _decoded(key), _arguments(query))
        for candidate in candidates:
            nested = self._below(candidate)
            if nested is not None:
                return Target(nested, nested.key, _arguments(query))
        raise ValueError("there is no resource at this path")

    def _below(self, path: str) -> NestedResource | None:
        """Return what a path below a document leads to, None if nothing."""
        parts = path[1:].split("/")
        for length in range(len(parts) - 2, 0, -1):
            resource = self.resources.get("/".join(parts[:length]))
            if resource is None:
                continue
            try:
                key, *names = [_decoded(each) or "" for each in parts[length:]]
                found = nested_at(resource, key, names)
            except (MissingDocumentError, ValueError):
                continue
            found.path = self.prefix + path
            return found
        return None

    def _lookup(self, path: str) -> tuple[Resource | None, str | None]:
        whole = self.resources.get(path[1:])
        if whole is not None:
            return whole, None
        collection, _, key = path[1:].rpartition("/")
        return (self.resources.get(collection), key) if key else (None, None)


def _decoded(key: str | None) -> str | None:
    if key is None:
        return None
    try:
        return unquote_to_bytes(key).decode()
    except UnicodeDecodeError:
        raise ValueError("the key is not UTF-8, percent-encoded") from None


def _arguments(query: str) -> dict[str, list[str]]:
    arguments: dict[str, list[str]] = {}
    try:
        pairs = typed.parse_form(query.encode())
    except BodyError as error:
        raise ValueError(error.detail.replace("body", "query")) from error
    for name, value in pairs:
        arguments.setdefault(name, []).append(value)
    return arguments
