"""What stands for the objects that a pickle would make: only as much as judging it needs."""

from __future__ import annotations

from typing import Any, NamedTuple


class Name(NamedTuple):
    """Something that the pickle imports."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Opaque:
    """Plain data whose value does not matter: numbers, long texts, lists."""

    __slots__ = ()


OPAQUE = Opaque()


class Table:
    """A dict whose first text keys are known; `is_whole` is False when there was more in it."""

    __slots__ = ("is_whole", "items")

    MOST_ITEMS = 64

    def __init__(self) -> None:
        self.items: dict[str, Any] = {}
        self.is_whole = True

    def put(self, key: Any, value: Any) -> None:
        """Takes an item in, while there is room."""
        if isinstance(key, str) and (key in self.items or len(self.items) < self.MOST_ITEMS):
            self.items[key] = value
        else:
            self.is_whole = False


class Made:
    """An object that a class or function made; `state` is what BUILD gave it last."""

    __slots__ = ("arguments", "maker", "state")

    def __init__(self, maker: Name, arguments: Any) -> None:
        self.maker = maker
        self.arguments = arguments
        self.state: Any = None
