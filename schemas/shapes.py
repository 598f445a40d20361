"""How an Avro datum, as fastavro reads it, becomes a frozen dataclass: worked out once per class from its annotations.

UUIDs are 16 bytes, enums their text, tuples arrays, nested dataclasses records; everything else is what it is. The other
direction is `schemas.writing`.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints
from uuid import UUID

from schemas.ids import uuid_of

T = TypeVar("T")
Convert = Callable[[Any], Any]


class Shape(Generic[T]):
    """Makes values of one dataclass (frozen, with slots).

    It fills the slots without the dataclass's own constructor, which costs twice as much and would check nothing.
    """

    def __init__(self, cls: type[T]) -> None:
        self.cls = cls
        hints = get_type_hints(cls)
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        self._fill = [(name, getattr(cls, name).__set__, _converter(hints[name])) for name in names]

    def value(self, datum: dict[str, Any]) -> T:
        """The value of an Avro datum. Raises ValueError for a word that no enum knows."""
        made = object.__new__(self.cls)
        for name, fill, convert in self._fill:
            given = datum[name]
            fill(made, given if convert is None else convert(given))
        return made


def _converter(hint: Any) -> Convert | None:
    if get_origin(hint) is UnionType:
        return _union(get_args(hint))
    if get_origin(hint) is tuple:
        item = _converter(get_args(hint)[0])
        return tuple if item is None else (lambda items: tuple([item(each) for each in items]))
    if hint is UUID:
        return uuid_of
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint
    if is_dataclass(hint):
        shape: Shape[Any] = Shape(hint)  # type: ignore[arg-type]
        return shape.value
    return None


def _union(members: tuple[Any, ...]) -> Convert | None:
    converts = [convert for member in members if member is not NoneType and (convert := _converter(member))]
    if not converts:
        return None
    convert = converts[0] if len(converts) == 1 else _first_of(converts)
    return _or_none(convert) if NoneType in members else convert


def _or_none(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _first_of(converts: list[Convert]) -> Convert:
    """Two enums: the first that knows the word."""

    def convert(value: Any) -> Any:
        for attempt in converts[:-1]:
            try:
                return attempt(value)
            except ValueError:
                continue
        return converts[-1](value)

    return convert
