"""Tornado, answering with constants of the sizes that the others answer with: what no handler can beat."""

from __future__ import annotations

import asyncio
import sys

import orjson
import tornado.web

from bench.documents import answer

ONE = orjson.dumps(answer(0))
PAGES = {size: orjson.dumps([answer(number) for number in range(size)]) for size in (20, 100)}


class One(tornado.web.RequestHandler):
    """One user, always the same."""

    def get(self, key: str) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(ONE)

    put = get

    def delete(self, key: str) -> None:
        self.set_status(204)
        self.finish()


class Users(tornado.web.RequestHandler):
    """Two pages, always the same."""

    def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(PAGES[int(self.get_query_argument("per_page", "20"))])

    def post(self) -> None:
        self.set_status(201)
        self.set_header("Content-Type", "application/json")
        self.finish(ONE)


async def main() -> None:
    """Serve ``/user``."""
    rules = [(r"/user", Users), (r"/user/([^/]+)", One)]
    application = tornado.web.Application(rules, log_function=lambda handler: None)
    application.listen(int(sys.argv[1]), address="127.0.0.1", backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
