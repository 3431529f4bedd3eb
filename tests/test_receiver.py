"""Receivers get what they name, whatever kind of callable they are."""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
import types
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec

import pytest
import tornado.gen

from bzz.dispatcher.receiver import (
    Adapter,
    describe,
    is_async,
    is_generator,
    is_held_weakly,
    receiver_key,
    wire_name,
)

SENDER, SIGNAL = object(), object()
PAYLOAD = {"instance": "I", "handler": "H"}


def called(receiver: Any, provides: frozenset[str] | None, payload: dict[str, Any] | None = None) -> Any:
    positional, named = Adapter(receiver, provides).arguments(SIGNAL, SENDER, payload or PAYLOAD)
    return receiver(*positional, **named)


class Owner:
    def method(self, instance: Any, handler: Any) -> Any:
        return instance, handler

    @classmethod
    def of_class(cls, sender: Any, instance: Any) -> Any:
        return sender, instance

    @staticmethod
    def static(handler: Any) -> Any:
        return handler

    def positional(self, sender: Any, instance: Any, /) -> Any:
        return sender, instance


class Called:
    def __call__(self, instance: Any, sender: Any) -> Any:
        return instance, sender


class Made:
    def __init__(self, sender: Any, instance: Any) -> None:
        self.got = sender, instance

    def __eq__(self, other: object) -> bool:
        return self.got == other

    __hash__ = None


class LoggedCall:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            return function(self, *args, **kwargs)

        return wrapper

    @logged
    def __call__(self, handler: Any) -> Any:
        return handler

    @logged
    def method(self, handler: Any, instance: Any) -> Any:
        return handler, instance


def wraps(inner: Any, wrapper: Any) -> Any:
    """Make ``wrapper(inner, …)`` look like ``inner``, as decorators do."""

    @functools.wraps(inner)
    def plain(*args: Any, **kwargs: Any) -> Any:
        return wrapper(inner, *args, **kwargs)

    return plain


def through(inner: Any, *args: Any, **kwargs: Any) -> Any:
    return inner(*args, **kwargs)


def three(sender: Any, instance: Any, handler: Any) -> Any:
    return sender, instance, handler


def narrowed(inner: Any) -> Any:
    @functools.wraps(inner)
    def wrapper(handler: Any) -> Any:
        return inner("own", handler)

    return wrapper


def positional_only_wrapper(inner: Any) -> Any:
    @functools.wraps(inner)
    def wrapper(*args: Any) -> Any:
        return inner(*args)

    return wrapper


def leading_wrapper(inner: Any) -> Any:
    @functools.wraps(inner)
    def wrapper(sender: Any, **kwargs: Any) -> Any:
        return inner(sender, **kwargs)

    return wrapper


def leading_spread_wrapper(inner: Any) -> Any:
    @functools.wraps(inner)
    def wrapper(sender: Any, *args: Any) -> Any:
        return inner(sender, *args)

    return wrapper


def keywords_wrapper(inner: Any) -> Any:
    @functools.wraps(inner)
    def wrapper(**kwargs: Any) -> Any:
        return inner(**kwargs)

    return wrapper


def with_signature(*args: Any, **kwargs: Any) -> Any:
    return (*args, *kwargs.values())


with_signature.__signature__ = inspect.signature(lambda handler: None)
with_signature.__wrapped__ = three

updated_partial = functools.update_wrapper(functools.partial(three, "bound"), three)

ALL = {"sender": SENDER, "signal": SIGNAL, **PAYLOAD}
OTHERS = {"signal": SIGNAL, **PAYLOAD}

CASES: dict[str, tuple[Any, Any]] = {
    "all by name": (three, (SENDER, "I", "H")),
    "any order": (lambda handler, sender, instance: (handler, sender, instance), ("H", SENDER, "I")),
    "without sender": (lambda handler, instance: (handler, instance), ("H", "I")),
    "one": (lambda instance: instance, "I"),
    "none": (lambda: "nothing", "nothing"),
    "signal": (lambda signal, instance: (signal, instance), (SIGNAL, "I")),
    "kwargs": (lambda **kw: kw, ALL),
    "sender and kwargs": (lambda sender, **kw: (sender, kw), (SENDER, OTHERS)),
    "unknown first": (lambda s, **kw: (s, kw), (SENDER, OTHERS)),
    "unknown first and named": (lambda s, handler: (s, handler), (SENDER, "H")),
    "unknown first alone": (lambda _: _, SENDER),
    "unknown first, positional-only": (lambda s, /, **kw: (s, kw), (SENDER, OTHERS)),
    "unknown first with default": (lambda x="own": x, "own"),
    "defaults": (lambda sender=None, gone=None, handler=None: (sender, gone, handler), (SENDER, None, "H")),
    "default kept": (lambda handler, gone="own": (handler, gone), ("H", "own")),
    "args": (lambda *args: args, (SENDER,)),
    "args and kwargs": (lambda *args, **kw: (args, kw), ((SENDER,), OTHERS)),
    "args after named": (lambda handler, *args: (handler, args), ("H", ())),
    "args and keyword sender": (lambda *args, sender: (args, sender), ((), SENDER)),
    "positional-only": (lambda instance, handler, /: (instance, handler), ("I", "H")),
    "positional-only default": (lambda gone=1, handler=2, /: (gone, handler), (1, "H")),
    "positional-only and rest": (
        lambda handler, /, **kw: (handler, kw),
        ("H", {"instance": "I", "sender": SENDER, "signal": SIGNAL}),
    ),
    "keyword-only": (lambda *, handler, sender: (handler, sender), ("H", SENDER)),
    "method": (Owner().method, ("I", "H")),
    "class method": (Owner.of_class, (SENDER, "I")),
    "static method": (Owner.static, "H"),
    "positional-only method": (Owner().positional, (SENDER, "I")),
    "callable object": (Called(), ("I", SENDER)),
    "class": (Made, (SENDER, "I")),
    "decorated __call__": (LoggedCall(), "H"),
    "decorated method": (LoggedCall().method, ("H", "I")),
    "partial positional": (functools.partial(three, "bound"), ("bound", "I", "H")),
    "partial keyword stays bound": (functools.partial(three, instance="bound"), (SENDER, "bound", "H")),
    "partial of sender": (functools.partial(three, sender="bound"), ("bound", "I", "H")),
    "partial keyword in kwargs": (functools.partial(lambda **kw: kw["handler"], handler="bound"), "bound"),
    "partial of partial": (
        functools.partial(functools.partial(three, handler=1), "bound"),
        ("bound", "I", 1),
    ),
    "partial before args": (functools.partial(lambda a, *args: (a, args), a="bound"), ("bound", ())),
    "partial of args": (functools.partial(lambda *args: args, 1), (1, SENDER)),
    "partial of method": (functools.partial(Owner().method, handler=3), ("I", 3)),
    "partial keyword-only": (
        functools.partial(lambda sender, *, x, handler: (sender, x, handler), x=1),
        (SENDER, 1, "H"),
    ),
    "partial looks like its function": (updated_partial, ("bound", "I", "H")),
    "wrapped": (wraps(three, through), (SENDER, "I", "H")),
    "wrapped without sender": (wraps(lambda handler, instance: (handler, instance), through), ("H", "I")),
    "wrapped twice": (wraps(wraps(three, through), through), (SENDER, "I", "H")),
    "wrapped kwargs": (wraps(lambda sender, **kw: (sender, kw), through), (SENDER, OTHERS)),
    "wrapped args": (wraps(lambda *args: args, through), (SENDER,)),
    "wrapped positional-only": (wraps(lambda instance, /: instance, through), "I"),
    "wrapped partial": (wraps(functools.partial(three, handler=1), through), (SENDER, "I", 1)),
    "wrapper passes only positions": (positional_only_wrapper(three), (SENDER, "I", "H")),
    "wrapper passes only keywords": (keywords_wrapper(three), (SENDER, "I", "H")),
    "wrapper of args by keywords": (keywords_wrapper(lambda *args, handler: (args, handler)), ((), "H")),
    "wrapper of positions by keywords": (
        keywords_wrapper(lambda gone=1, /, *, handler: (gone, handler)),
        (1, "H"),
    ),
    "wrapper takes the sender": (leading_wrapper(three), (SENDER, "I", "H")),
    "wrapper takes the sender and positions": (leading_spread_wrapper(three), (SENDER, "I", "H")),
    "wrapper takes less": (narrowed(lambda added, handler: (added, handler)), ("own", "H")),
    "wrapped between": (wraps(narrowed(lambda added, handler: (added, handler)), through), ("own", "H")),
    "own signature": (with_signature, ("H",)),
    "cached": (functools.lru_cache(lambda handler, instance: (handler, instance)), ("H", "I")),
}


TAKE_ALL = {
    *("kwargs", "sender and kwargs", "args and kwargs", "wrapped kwargs", "positional-only and rest"),
    *("unknown first", "unknown first, positional-only"),
}


@pytest.mark.parametrize("provides", [None, frozenset(PAYLOAD)], ids=["any key", "known keys"])
@pytest.mark.parametrize("name", CASES)
def test_receiver_gets_what_it_names(name: str, provides: frozenset[str] | None) -> None:
    receiver, expected = CASES[name]
    assert called(receiver, provides) == expected


def test_builtin_without_signature_gets_only_the_sender() -> None:
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(type)
    assert called(type, frozenset(PAYLOAD)) is object
    got: list[Any] = []
    called(got.append, frozenset(PAYLOAD))
    assert got == [SENDER]


@pytest.mark.parametrize("name", [name for name in CASES if name not in TAKE_ALL])
def test_new_payload_key_breaks_no_receiver(name: str) -> None:
    receiver, expected = CASES[name]
    more = PAYLOAD | dict.fromkeys(["gone", "x", "s", "_", "added", "a", "args", "kw", "self", "cls"], "new")
    named = {"defaults", "default kept", "unknown first with default", "positional-only default"}
    if name in named:
        assert called(receiver, frozenset(PAYLOAD), more) != expected, "it names the new key"
    else:
        assert called(receiver, frozenset(PAYLOAD), more) == expected


@pytest.mark.parametrize(
    ("mock", "positional", "named"),
    [
        (Mock(), (SENDER,), OTHERS),
        (MagicMock(), (SENDER,), OTHERS),
        (AsyncMock(), (SENDER,), OTHERS),
        (Mock(spec=three), (SENDER,), OTHERS),
        (create_autospec(three), (SENDER,), PAYLOAD),
    ],
    ids=["Mock", "MagicMock", "AsyncMock", "with spec", "with autospec"],
)
def test_mocks_of_other_peoples_tests(mock: Any, positional: Any, named: Any) -> None:
    result = called(mock, frozenset(PAYLOAD))
    assert mock.call_args == (positional, named)
    assert not is_async(mock) and not is_generator(mock)
    if inspect.iscoroutine(result):
        result.close()


def test_first_parameter_is_a_payload_key_if_the_payload_has_it() -> None:
    def receiver(task: Any, **rest: Any) -> Any:
        return task, rest

    assert called(receiver, None, {"task": "T"}) == ("T", {"sender": SENDER, "signal": SIGNAL})
    assert called(receiver, None, {"other": 1}) == (SENDER, {"signal": SIGNAL, "other": 1})


@pytest.mark.parametrize(
    "receiver",
    [
        lambda sender, missing: None,
        lambda instance, missing: None,
        lambda missing, sender: None,
        lambda *, missing: None,
        lambda instance, missing, /: None,
        functools.partial(lambda sender, missing: None),
        wraps(lambda sender, missing: None, through),
    ],
)
def test_what_nobody_provides_is_refused(receiver: Any) -> None:
    with pytest.raises(TypeError, match=r"<lambda> needs 'missing', .* provides: handler, instance, send"):
        Adapter(receiver, frozenset(PAYLOAD))
    adapter = Adapter(receiver, None)
    with pytest.raises(TypeError, match="needs 'missing'"):
        adapter.arguments(SIGNAL, SENDER, PAYLOAD)


def test_required_key_that_is_promised_but_not_sent() -> None:
    adapter = Adapter(three, frozenset(PAYLOAD))
    with pytest.raises(TypeError, match="needs 'handler'"):
        adapter.arguments(SIGNAL, SENDER, {"instance": 1})


async def coroutine(sender: Any) -> None: ...


class AsyncCalled:
    async def __call__(self, sender: Any) -> None: ...

    async def method(self, sender: Any) -> None: ...


class TornadoCalled:
    @tornado.gen.coroutine
    def __call__(self, sender: Any) -> Any:
        yield


@tornado.gen.coroutine
def tornado_coroutine(sender: Any) -> Any:
    yield


@pytest.mark.parametrize(
    ("receiver", "expected"),
    [
        (coroutine, True),
        (functools.partial(coroutine, 1), True),
        (AsyncCalled(), True),
        (functools.partial(AsyncCalled()), True),
        (AsyncCalled().method, True),
        (tornado_coroutine, True),
        (TornadoCalled(), True),
        (AsyncCalled, False),
        (three, False),
        (Called(), False),
        (print, False),
        (lambda: coroutine(1), False),
    ],
)
def test_is_async(receiver: Any, expected: bool) -> None:
    assert is_async(receiver) is expected


def generator(sender: Any) -> Any:
    yield


async def async_generator(sender: Any) -> Any:
    yield


class GeneratorCalled:
    def __call__(self, sender: Any) -> Any:
        yield


@types.coroutine
def driven(sender: Any) -> Any:
    yield


@pytest.mark.parametrize(
    ("receiver", "expected"),
    [
        (generator, True),
        (functools.partial(generator, 1), True),
        (async_generator, True),
        (GeneratorCalled(), True),
        (functools.partial(GeneratorCalled()), True),
        (driven, False),
        (tornado_coroutine, False),
        (three, False),
        (print, False),
    ],
)
def test_is_generator(receiver: Any, expected: bool) -> None:
    assert is_generator(receiver) is expected


class Unreferable:
    __slots__ = ()

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("receiver", "expected"),
    [
        (three, False),
        (lambda: None, False),
        (coroutine, False),
        (functools.partial(three), False),
        (print, False),
        ([].append, False),
        (Made, False),
        (functools.lru_cache(three), False),
        (Owner.static, False),
        (Owner().method, True),
        (Owner.of_class, True),
        (Called(), True),
        (Unreferable(), False),
    ],
)
def test_what_is_held_weakly(receiver: Any, expected: bool) -> None:
    assert is_held_weakly(receiver) is expected


def test_two_accesses_to_a_method_are_one_receiver() -> None:
    owner, other, items = Owner(), Owner(), [1]
    assert receiver_key(owner.method) == receiver_key(owner.method) != receiver_key(other.method)
    assert receiver_key(items.append) == receiver_key(items.append) != receiver_key([].append)
    assert receiver_key(items.append) != receiver_key(items.extend)
    assert receiver_key(print) == receiver_key(print) != receiver_key(len)


@pytest.mark.parametrize(
    ("receiver", "expected"),
    [
        (three, f"{__name__}.three"),
        (functools.partial(functools.partial(three)), f"{__name__}.three"),
        (Owner().method, f"{__name__}.Owner.method"),
        (Called(), f"{__name__}.Called"),
        (Made, f"{__name__}.Made"),
        (print, "builtins.print"),
        ([].append, "builtins.list.append"),
    ],
)
def test_describe(receiver: Any, expected: str) -> None:
    assert describe(receiver) == expected


@pytest.mark.parametrize(
    ("receiver", "expected"),
    [
        (three, f"{__name__}:three"),
        (Owner.of_class, f"{__name__}:Owner.of_class"),
        (Owner.static, f"{__name__}:Owner.static"),
        (Made, f"{__name__}:Made"),
        (print, "builtins:print"),
    ],
)
def test_wire_name(receiver: Any, expected: str) -> None:
    assert wire_name(receiver) == expected


def local() -> Any:
    def changed() -> None: ...

    return changed


@pytest.mark.parametrize(
    "receiver",
    [lambda: None, local(), Owner().method, functools.partial(three), Called(), [].append],
    ids=["lambda", "local", "method", "partial", "object", "builtin method"],
)
def test_what_no_other_process_can_find_has_no_wire_name(receiver: Any) -> None:
    with pytest.raises(ValueError, match="top of a module"):
        wire_name(receiver)


SCRIPT = """
from bzz.dispatcher.receiver import wire_name
def changed(): ...
print(wire_name(changed))
"""


def test_receiver_of_a_script_goes_by_the_module_that_others_import(tmp_path: Any) -> None:
    script = tmp_path / "shop.py"
    script.write_text(SCRIPT)
    package = tmp_path / "market"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "stall.py").write_text(SCRIPT)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
        )

    assert run("shop.py").stdout == "shop:changed\n"
    assert run("-m", "market.stall").stdout == "market.stall:changed\n"
    assert "interactive session" in run("-c", SCRIPT).stderr
