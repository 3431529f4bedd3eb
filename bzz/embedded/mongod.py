"""A real MongoDB: a replica set of one, so that transactions and change streams work."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from bzz.embedded.binary import find_binary
from bzz.embedded.process import HOST, EmbeddedServer
from bzz.errors import EmbeddedServerError

__all__ = ["EmbeddedMongo"]

NOT_YET_INITIALIZED = 94  # MongoDB's error code: no replica set has been formed in this data folder


class EmbeddedMongo(EmbeddedServer):
    """A MongoDB server for this process, on the loopback interface.

    ``replica_set`` names the set of one that it forms; None starts a standalone server, which has no
    transactions. ``test_commands`` switches on MongoDB's fail points. ``cache`` is the size of its cache in
    GB. The rest is said at :class:`~bzz.embedded.process.EmbeddedServer`.

    A kept folder keeps the name under which its set was formed, whatever ``replica_set`` says; on another
    port the set is given its new address before :meth:`start` returns. Source: https://www.mongodb.com/docs/v6.0/reference/program/mongod/
    """

    name = "mongod"

    def __init__(
        self,
        port: int = 0,
        data: str | Path | None = None,
        *,
        replica_set: str | None = "rs0",
        test_commands: bool = False,
        cache: float = 0.25,
        binary: str | Path | None = None,
        start_timeout: float = 60.0,
        stop_timeout: float = 20.0,
    ) -> None:
        super().__init__(port, data, binary=binary, start_timeout=start_timeout, stop_timeout=stop_timeout)
        self.replica_set = replica_set
        self.test_commands = test_commands
        self.cache = cache

    def find(self) -> Path:
        """Find mongod: ``binary=``, ``BZZ_MONGOD``, the PATH, the extra ``embedded``."""
        return find_binary(
            "mongod", given=self.binary, variable="BZZ_MONGOD", package="fiftyone", inside="db/bin/mongod"
        )

    def command(self, binary: Path, folder: Path, port: int) -> list[str]:
        """Build mongod's command line."""
        parameters = {
            "diagnosticDataCollectionEnabled": "false",
            # A replica set of one has nobody to hand over to, so it need not wait 15 s for him.
            "shutdownTimeoutMillisForSignaledShutdown": "100",
        }
        if self.test_commands:
            parameters["enableTestCommands"] = "1"
        command = [str(binary), "--dbpath", str(folder), "--port", str(port), "--bind_ip", HOST]
        command += ["--nounixsocket", "--quiet", "--wiredTigerCacheSizeGB", str(self.cache)]
        if self.replica_set:
            command += ["--replSet", self.replica_set, "--oplogSize", "64"]
        for key, value in parameters.items():
            command += ["--setParameter", f"{key}={value}"]
        return command

    @property
    def url(self) -> str:
        """The connection string, without a database."""
        return f"mongodb://{HOST}:{self.port}/" + (
            f"?replicaSet={self.replica_set}" if self.replica_set else ""
        )

    def telling(self, lines: list[str]) -> list[str]:
        """Keep the errors of mongod's JSON log: what follows them, on its way out, says nothing."""
        return [line for line in lines if not line.startswith("{") or re.search(r'"s":"[EF]"|rror', line)]

    def prepare(self, deadline: float) -> None:
        """Form the replica set, or tell it its new address, and wait until it takes writes."""
        seconds = max(deadline - time.monotonic(), 0.1)
        client: MongoClient[dict[str, Any]] = MongoClient(
            HOST,
            self._port,
            directConnection=True,
            serverSelectionTimeoutMS=int(seconds * 1000),
            socketTimeoutMS=int(seconds * 1000),
        )
        with client:
            status = client.admin.command({"serverStatus": 1, "metrics": 0, "wiredTiger": 0})
            if status["pid"] != self.pid:
                raise EmbeddedServerError(f"another MongoDB answers on port {self._port}")
            if self.replica_set:
                self._form_set(client, deadline)

    def _form_set(self, client: MongoClient[dict[str, Any]], deadline: float) -> None:
        here = f"{HOST}:{self._port}"
        try:
            config = client.admin.command("replSetGetConfig")["config"]
        except OperationFailure as error:
            if error.code != NOT_YET_INITIALIZED:
                raise
            members = [{"_id": 0, "host": here}]
            client.admin.command("replSetInitiate", {"_id": self.replica_set, "members": members})
        else:
            self.replica_set = config["_id"]
            if [member["host"] for member in config["members"]] != [here]:
                config["members"] = [{**config["members"][0], "host": here}]
                config["version"] += 1
                client.admin.command({"replSetReconfig": config, "force": True})
        while not client.admin.command("hello")["isWritablePrimary"]:
            if time.monotonic() > deadline:
                raise EmbeddedServerError(f"the replica set {self.replica_set} has no primary")
            time.sleep(0.01)
