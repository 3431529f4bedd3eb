"""Print every change with its diff, as soon as it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mongoengine import Document
from rich.console import Console
from rich.markup import escape

from bzz.signals import post_create_instance, post_delete_instance, post_update_instance

__all__ = ["print_changes"]

WIDEST = 60


def print_changes(console: Console) -> None:
    """Connect receivers that print what is created, updated and deleted, whatever the model."""

    @post_create_instance.connect
    def created(sender: type[Document], instance: Document) -> None:
        _say(console, "green", "created", sender, instance)

    @post_update_instance.connect
    def updated(sender: type[Document], instance: Document, updated_fields: Mapping[str, Any]) -> None:
        _say(console, "yellow", "updated", sender, instance)
        for path, change in updated_fields.items():
            old, new = _short(change["from"]), _short(change["to"])
            console.print(f"    {path}: [red]{old}[/red] → [green]{new}[/green]", soft_wrap=True)

    @post_delete_instance.connect
    def deleted(sender: type[Document], instance: Document) -> None:
        _say(console, "red", "deleted", sender, instance)


def _say(console: Console, colour: str, what: str, sender: type[Document], instance: Document) -> None:
    title = escape(str(instance))
    console.print(f"[{colour}]{what}[/{colour}] {sender.__name__} [bold]{title}[/bold]", soft_wrap=True)


def _short(value: object) -> str:
    text = repr(value)
    return escape(text if len(text) <= WIDEST else f"{text[:WIDEST]}…")
