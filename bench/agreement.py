"""Do all peers do the same? Each is asked everything once, and what it answers and stores is compared."""

from __future__ import annotations

import http.client
import json
import random
from datetime import UTC, datetime
from typing import Any

from bench.documents import body, changes, key
from bench.scenarios import AGES
from bench.servers import Server

__all__ = ["DisagreementError", "agree"]

FIELDS = tuple(body(0))


class DisagreementError(AssertionError):
    """A peer does not do what is measured."""


def agree(server: Server, seeded: int) -> None:
    """Get, list, create, update and delete one document, and let four faulty requests be refused.

    The documents 0 to ``seeded - 1`` must be stored. Raises :class:`DisagreementError`.
    """
    peer = server.peer

    def expect(what: str, found: Any, wanted: Any) -> None:
        if found != wanted:
            raise DisagreementError(f"{peer.title}: {what} is {found!r} instead of {wanted!r}")

    def ask(status: int, method: str, path: str, value: Any = None) -> Any:
        found, content = request(server.port, method, path, value)
        expect(f"the status of {method} {path} with {value!r}", found, status)
        return json.loads(content) if content.startswith((b"{", b"[")) else None

    if not peer.stores:
        expect("the document", plain(ask(200, "GET", f"/user/{key(0)}")), plain(body(0)))
        expect("a page's length", len(ask(200, "GET", "/user?page=1&per_page=20")), 20)
        return
    number = seeded - 1
    found = ask(200, "GET", f"/user/{key(number)}")
    expect("the document", plain(found), plain(body(number)))
    expect("its key", found[peer.key], key(number))
    lists = {
        "page=1": range(20),
        "page=2": range(20, 40),
        peer.equals.format(age=7): range(7, seeded, AGES)[:20],
    }
    for query, wanted in lists.items():
        found = ask(200, "GET", f"/user?{query}&per_page=20")
        found = found if peer.items is None else found[peer.items]
        expect("the page's keys", [each[peer.key] for each in found], [key(each) for each in wanted])
        expect("the page", [plain(each) for each in found], [plain(body(each)) for each in wanted])
    made = ask(201, "POST", "/user", body(77_777))
    place = f"/user/{made[peer.key]}"
    expect("the new document", plain(made), plain(body(77_777)))
    expect("what it stored", plain(ask(200, "GET", place)), plain(body(77_777)))
    new = next(changes(random.Random(7)))
    wanted = plain(body(77_777) | new)
    expect("the changed document", plain(ask(200, peer.update, place, new)), wanted)
    expect("what the change stored", plain(ask(200, "GET", place)), wanted)
    ask(204, "DELETE", place)
    ask(404, "GET", place)
    faults = ({"age": 3}, body(1) | {"age": "old"}, body(1) | {"address": {"zip": "1"}}, body(1) | {"x": 1})
    for faulty in faults:
        if request(server.port, "POST", "/user", faulty)[0] not in {400, 422}:
            raise DisagreementError(f"{peer.title} accepts {faulty!r}")


def request(port: int, method: str, path: str, value: Any = None) -> tuple[int, bytes]:
    """Ask once, on a connection of its own."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        headers = {"Accept": "application/json"}
        if value is not None:
            headers["Content-Type"] = "application/json"
        line.request(method, path, None if value is None else json.dumps(value), headers)
        answer = line.getresponse()
        return answer.status, answer.read()
    finally:
        line.close()


def plain(document: dict[str, Any]) -> dict[str, Any]:
    """The fields of a document, its moment comparable."""
    found = {name: document.get(name) for name in FIELDS}
    at = datetime.fromisoformat(found["since"])
    found["since"] = (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()
    return found
