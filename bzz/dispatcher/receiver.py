"""What a receiver can take, read from its signature once, when it connects.

A signal offers ``sender``, ``signal`` and the keys of its payload. A receiver gets those that it names, all
of them if it takes ``**kwargs``, and never one that it did not ask for: a new payload key breaks no old
receiver. The sender also goes where Blinker puts it, to the first positional parameter, when that parameter
has no default and is called neither like a key of the payload nor ``signal``::

    def changed(sender, instance, handler): ...      # by name
    def changed(handler, instance): ...              # only what it wants
    def changed(model, **payload): ...               # `model` is the sender
    def changed(**everything): ...                   # sender, signal and the whole payload
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Hashable, Mapping
from inspect import Parameter
from pathlib import Path
from typing import Any, Final

from blinker.base import make_id  # type: ignore[attr-defined]  # not in its __all__, but it is Blinker's identity

__all__ = [
    "OWN_NAMES",
    "Adapter",
    "Arguments",
    "describe",
    "importable_module",
    "is_async",
    "is_generator",
    "is_held_weakly",
    "receiver_key",
    "wire_name",
]

OWN_NAMES: Final = frozenset({"sender", "signal"})
"""What every signal offers besides its payload; no payload key may be called like that."""

_SENDER: Final = object()
_EMPTY: Final = Parameter.empty
_ONLY, _EITHER, _KEYWORD = Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY
_ARGS, _KWARGS = Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD


Arguments = tuple[list[Any], dict[str, Any]]
"""Positional and named."""


class Adapter:
    """How to call one receiver: which of the offered values it gets, by position or by name.

    It never refers to the receiver itself, so a weakly held receiver can die.

    ``provides`` are the payload keys that the signal promises; None when any key may come. A parameter
    without default that is not among them is a :exc:`TypeError` here, or when called if any key may come.
    A callable without a signature (some builtins) gets the sender, positionally, and nothing else.

    >>> Adapter(lambda instance, **rest: None).arguments("the signal", "the sender", {"instance": 1, "a": 2})
    ([1], {'a': 2, 'sender': 'the sender', 'signal': 'the signal'})
    """

    __slots__ = ("_blocked", "_by_position", "_names", "_required", "_takes_all", "name")

    def __init__(self, receiver: Callable[..., Any], provides: frozenset[str] | None = None) -> None:
        self.name = describe(receiver)
        parameters = _parameters(receiver)
        if parameters is None:
            parameters = [Parameter("sender", _ONLY)]
        self._blocked = _bound_names(receiver)
        self._takes_all = any(parameter.kind is _KWARGS for parameter in parameters)
        self._by_position, lead = _positions(parameters, provides)
        if lead is not None:
            self._blocked |= {lead}
        passed = {name for name, _ in self._by_position} | ({lead} if lead is not None else set())
        from_sender = {name for name, fallback in self._by_position if fallback is _SENDER} | {lead}
        self._names = tuple(
            p.name for p in parameters if p.kind in (_EITHER, _KEYWORD) and p.name not in passed
        )
        self._required = tuple(
            p.name
            for p in parameters
            if p.kind in (_ONLY, _EITHER, _KEYWORD) and p.default is _EMPTY and p.name not in from_sender
        )
        if provides is not None:
            self._refuse_missing(provides | OWN_NAMES)

    def arguments(
        self, signal: Any, sender: Any, payload: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and the named arguments for one call.

        Raises :exc:`TypeError`, naming the parameter, when the receiver needs what the payload lacks.
        """
        values = {**payload, "sender": sender, "signal": signal}
        for name in self._required:
            if name not in values:
                self._refuse_missing(values)
        positional = []
        for name, fallback in self._by_position:
            if name not in values and fallback is _SENDER:
                positional.append(values.pop("sender"))
            else:
                positional.append(values.pop(name, fallback))
        if not self._takes_all:
            return positional, {name: values[name] for name in self._names if name in values}
        for name in self._blocked:
            values.pop(name, None)
        return positional, values

    def wants(self, name: str) -> bool:
        """Tell whether the receiver is given this key of the payload, when it is there."""
        return self._takes_all or name in self._names or any(name == each for each, _ in self._by_position)

    def _refuse_missing(self, available: Mapping[str, Any] | frozenset[str]) -> None:
        missing = [name for name in self._required if name not in available]
        if missing:
            offered = ", ".join(sorted(available))
            raise TypeError(
                f"{self.name} needs {', '.join(map(repr, missing))}, which the signal does not provide; "
                f"it provides: {offered}"
            )


def _positions(
    parameters: list[Parameter], provides: frozenset[str] | None
) -> tuple[list[tuple[str, Any]], str | None]:
    """Decide what is passed by position: (offered name, value if it is not offered) for each.

    Also return the name of the first parameter if it is the sender's although it is called differently.
    """
    positional = [parameter for parameter in parameters if parameter.kind in (_ONLY, _EITHER)]
    only = [(p.name, p.default) for p in positional if p.kind is _ONLY]
    named = any(p.name == "sender" and p.kind not in (_ARGS, _KWARGS) for p in parameters)
    if not positional:
        spread = any(parameter.kind is _ARGS for parameter in parameters)
        return ([("sender", _EMPTY)] if spread and not named else []), None
    first = positional[0]
    if first.name == "sender":
        return [("sender", _EMPTY), *only[1:]], None
    if named or first.default is not _EMPTY or first.name == "signal":
        return only, None
    if provides is None:
        return [(first.name, _SENDER), *only[1:]], None
    if first.name in provides:
        return only, None
    return [("sender", _EMPTY), *only[1:]], first.name


def _parameters(receiver: Callable[..., Any]) -> list[Parameter] | None:
    """List what a call takes, looking through partials, methods and ``functools.wraps``; None: unknown."""
    if isinstance(receiver, functools.partial):
        inner = _parameters(receiver.func)
        return None if inner is None else _after_partial(inner, receiver)
    if inspect.ismethod(receiver):
        inner = _parameters(receiver.__func__)
        return None if inner is None else _without_first(inner, 1)
    wrapped = None if isinstance(receiver, type) else getattr(receiver, "__wrapped__", None)
    if wrapped is None and _has_python_call(receiver) and not hasattr(receiver, "__signature__"):
        return _parameters(types.MethodType(type(receiver).__call__, receiver))
    try:
        own = list(inspect.signature(receiver, follow_wrapped=False).parameters.values())
    except (ValueError, TypeError):
        return _parameters(wrapped) if callable(wrapped) else None
    if not callable(wrapped) or hasattr(receiver, "__signature__"):
        return own
    return _through(own, _parameters(wrapped) or [])


def _has_python_call(receiver: Any) -> bool:
    # Of the type, not of the object: a mock with a spec pretends to be a function.
    kind = type(receiver)
    return not issubclass(kind, type) and isinstance(kind.__call__, types.FunctionType)


def _without_first(parameters: list[Parameter], count: int) -> list[Parameter]:
    """Drop the first ``count`` positional parameters, which a method or a partial fills."""
    rest = list(parameters)
    while count and rest and rest[0].kind in (_ONLY, _EITHER):
        del rest[0]
        count -= 1
    return rest


def _after_partial(parameters: list[Parameter], partial: functools.partial[Any]) -> list[Parameter]:
    """List what is left to pass: what the partial binds stays bound, and what follows it needs its name."""
    left: list[Parameter] = []
    by_name_only = False
    for parameter in _without_first(parameters, len(partial.args)):
        if parameter.name in partial.keywords and parameter.kind in (_EITHER, _KEYWORD):
            by_name_only = by_name_only or parameter.kind is _EITHER
        elif by_name_only and parameter.kind is _EITHER:
            left.append(parameter.replace(kind=_KEYWORD))
        elif not (by_name_only and parameter.kind is _ARGS):
            left.append(parameter)
    return left


def _bound_names(receiver: Any) -> frozenset[str]:
    names: frozenset[str] = frozenset()
    while isinstance(receiver, functools.partial):
        names |= receiver.keywords.keys()
        receiver = receiver.func
    return names


def _through(own: list[Parameter], inner: list[Parameter]) -> list[Parameter]:
    """Combine a wrapper's own parameters with those of what it wraps, as far as it hands arguments on.

    ``inspect.signature`` shows the wrapped function alone, also when the wrapper takes less than that.
    """
    spread = any(parameter.kind is _ARGS for parameter in own)
    takes_all = any(parameter.kind is _KWARGS for parameter in own)
    explicit = [parameter for parameter in own if parameter.kind not in (_ARGS, _KWARGS)]
    named = {parameter.name for parameter in explicit}
    leading = [parameter for parameter in explicit if parameter.kind is not _KEYWORD]
    handed_on: list[Parameter] = []
    rest = _without_first(inner, len(leading)) if spread else inner
    for parameter in rest:
        by_position = parameter.kind in (_ONLY, _EITHER)
        if parameter.name in named:
            continue
        if parameter.kind is _ARGS or (parameter.kind is _ONLY and not spread):
            keep = spread and parameter.kind is _ARGS
            handed_on.extend([parameter] if keep else [])
        elif takes_all:
            first = spread and not leading
            handed_on.append(parameter if first or not by_position else parameter.replace(kind=_KEYWORD))
        elif spread and by_position:
            handed_on.append(parameter.replace(kind=_ONLY))
    if spread and not takes_all and handed_on:  # to reach a position, what is before it needs one too
        explicit = [p.replace(kind=_ONLY) if p.kind is _EITHER else p for p in explicit]
    return sorted([*explicit, *handed_on], key=lambda parameter: parameter.kind)


def is_async(receiver: Any) -> bool:
    """Tell whether calling gives something to await: a coroutine function, by itself or as ``__call__``.

    A plain function that happens to return an awaitable cannot be told before it is called.
    """
    body = _body(receiver)
    return getattr(body, "__tornado_coroutine__", False) is True or bool(_flags(body) & inspect.CO_COROUTINE)


def is_generator(receiver: Any) -> bool:
    """Tell whether calling runs nothing of the body, because it is a generator function."""
    flags = _flags(_body(receiver))
    is_driven = bool(flags & inspect.CO_ITERABLE_COROUTINE)  # types.coroutine: its generator can be awaited
    return bool(flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR)) and not is_driven


def _body(receiver: Any) -> Any:
    """Return what runs when this is called, as far as it is Python."""
    while isinstance(receiver, functools.partial):
        receiver = receiver.func
    return type(receiver).__call__ if _has_python_call(receiver) else receiver


def _flags(function: Any) -> int:
    # inspect trusts whatever is called __code__, and a mock has something else there.
    code = getattr(function, "__code__", None)
    return code.co_flags if isinstance(code, types.CodeType) else 0


def is_held_weakly(receiver: Any) -> bool:
    """Tell whether a receiver is held weakly unless told otherwise.

    Bound methods and instances with ``__call__`` are: their owner decides how long they live. Functions of
    any kind, partials, builtins and classes are held strongly: nobody connects a function to see it die.
    """
    if inspect.ismethod(receiver):
        return True
    if not _has_python_call(receiver):
        return False
    return type(receiver).__weakrefoffset__ != 0


def receiver_key(receiver: Any) -> Hashable:
    """Return what identifies a receiver while it lives; two accesses to one bound method are one receiver."""
    if isinstance(receiver, types.BuiltinMethodType) and not isinstance(receiver.__self__, types.ModuleType):
        return id(receiver.__self__), receiver.__name__
    key: Hashable = make_id(receiver)
    return key


def describe(receiver: Any) -> str:
    """Name a receiver for people: ``module.qualname``, or what there is."""
    while isinstance(receiver, functools.partial):
        receiver = receiver.func
    name = getattr(receiver, "__qualname__", None)
    if not isinstance(name, str):
        receiver, name = type(receiver), type(receiver).__qualname__
    return f"{getattr(receiver, '__module__', None) or 'builtins'}.{name}"


def wire_name(receiver: Any) -> str:
    """Return ``module:qualname``, the name under which another process finds the same receiver.

    Raises :exc:`ValueError` for what has no such name: lambdas, functions inside functions, methods of an
    instance, partials, objects. A function of a script that is run directly goes by the script's module name.
    """
    name = getattr(receiver, "__qualname__", None)
    module = getattr(receiver, "__module__", None)
    owner = getattr(receiver, "__self__", None)
    of_instance = owner is not None and not isinstance(owner, type | types.ModuleType)
    if of_instance or not isinstance(name, str) or "<" in name or not isinstance(module, str):
        raise ValueError(
            f"{describe(receiver)} cannot be received through a queue: another process finds a receiver by"
            " its module and name, so it must be a function (or class method) defined at the top of a module"
        )
    return f"{importable_module(module)}:{name}"


def importable_module(module: str) -> str:
    """Return the name under which another process imports a module, also that of a script run directly."""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    if file is None:
        raise ValueError("a receiver of an interactive session cannot be found by another process")
    return Path(file).stem
