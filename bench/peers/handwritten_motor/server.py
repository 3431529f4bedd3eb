"""The hand-written server with Motor instead of PyMongo Async; all else is the same."""

from __future__ import annotations

import asyncio

from motor.motor_asyncio import AsyncIOMotorClient

from bench.peers.handwritten.server import serve

if __name__ == "__main__":
    asyncio.run(serve(AsyncIOMotorClient))
