"""What users may import, held in one list: adding a name, or losing one, is a decision."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re

import pytest

import bzz
from tests.program import ROOT

PUBLIC = {
    "bzz": """
        Api BzzError CeleryNotConfiguredWarning Cors ExitEarly Idempotency MongoEngineRestHandler RateLimit
        UnknownSenderWarning Veto serve
    """,
    "bzz.api": "Api",
    "bzz.async_signals": """
        ANY AsyncSignal CeleryNotConfiguredWarning ExceptionSummary Gone RequestSummary receiver
        request_finished request_started
    """,
    "bzz.batch": "Batch BatchRequest Directory Entry Limits PlannedOperation read_request report",
    "bzz.dispatcher": "ANY Connection Options Signal Transport set_transport",
    "bzz.embedded": "EmbeddedMongo EmbeddedRedis",
    "bzz.errors": """
        AffectedError BodyError BulkError BulkItemsError BzzError CeleryNotConfiguredWarning ConflictError
        DeliveryError DuplicateError
        EmbeddedServerError ExitEarly FieldError HeaderError IdempotencyKeyInUseError
        IdempotencyKeyReusedError KeyFormatError MissingDocumentError
        PatchConflictError PayloadError PreconditionFailedError PreconditionRequiredError PublishError
        QueryError RateLimitError ReferencedError StorageError StorageTimeoutError
        StorageUnavailableError TransactionsUnsupportedError UnknownReceiverError UnknownSenderWarning
        UnknownSignalError UnsendableError ValidationError Veto
    """,
    "bzz.http.cors": "EXPOSED READ Cors",
    "bzz.http.rate_limit": "MemoryMeter Meter Quota RateLimit Reading remote_address",
    "bzz.http.rate_limit_redis": "RedisMeter close_meters",
    "bzz.mongoengine_handler": "MongoEngineRestHandler ProblemHandler Routes problem_of",
    "bzz.resource": "Action Operation Options Outcome Resource",
    "bzz.resource.idempotency": "Idempotency Once settings",
    "bzz.server": "Limits Server serve",
    "bzz.signals": """
        ALL ANY Signal batch_failed batch_finished batch_started post_create_instance post_delete_instance
        post_get_instance post_get_list post_update_instance pre_create_instance pre_delete_instance
        pre_get_instance pre_get_list pre_update_instance server_init server_process_init server_ready
        server_shutdown
    """,
    "bzz.testing": "Capture Event capture",
}

#: What is public in modules of which the rest is not.
ALONE = {
    "bzz.Api",
    "bzz.serve",
    "bzz.application.Application",
    "bzz.dispatcher.Signal",
    "bzz.embedded.process.EmbeddedServer",
    "bzz.model.Aggregation",
    "bzz.model.json_schema.json_schema",
    "bzz.worker.configure",
}

# Nobody imports these two: they are run.
SCRIPTS = {"bzz.__main__", "bzz.embedded.guardian"}
MODULES = sorted({"bzz", *(each.name for each in pkgutil.walk_packages(bzz.__path__, "bzz."))} - SCRIPTS)


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_are_these(module: str) -> None:
    assert sorted(importlib.import_module(module).__all__) == sorted(PUBLIC[module].split())


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_and_what_is_public_in_it(module: str) -> None:
    found = importlib.import_module(module)
    assert found.__doc__
    assert isinstance(found.__all__, list)
    assert [name for name in found.__all__ if not hasattr(found, name)] == []


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_class_and_function_is_described(module: str) -> None:
    found = importlib.import_module(module)
    named = [getattr(found, name) for name in found.__all__]
    assert [
        each for each in named if inspect.isroutine(each) or inspect.isclass(each) if not each.__doc__
    ] == []


def test_what_is_public_alone_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference.rst").read_text()
    assert set(re.findall(r"auto(?:class|function):: (\S+)", reference)) == ALONE
    for name in ALONE:
        module, _, found = name.rpartition(".")
        assert getattr(importlib.import_module(module), found).__doc__


def test_every_public_module_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference.rst").read_text()
    documented = set(re.findall(r"automodule:: (\S+)", reference))
    assert set(PUBLIC) - documented == {"bzz.api"}, "bzz.Api stands under bzz"
