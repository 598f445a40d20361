"""How a frozen dataclass becomes an Avro datum and back, worked out once per class from its annotations.

UUIDs are 16 bytes, enums their text, tuples arrays, nested dataclasses records; everything else is what it is.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import StrEnum
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints
from uuid import UUID

from schemas.ids import bytes_of, uuid_of

T = TypeVar("T")
Convert = Callable[[Any], Any]


class Shape(Generic[T]):
    """Converts values of one dataclass (frozen, with slots) to Avro data (`datum`) and back (`value`).

    `value` fills the slots without the dataclass's own constructor, which costs twice as much and would check nothing.
    """

    def __init__(self, cls: type[T]) -> None:
        self.cls = cls
        hints = get_type_hints(cls)
        converters = {field.name: _converters(hints[field.name]) for field in fields(cls)}  # type: ignore[arg-type]
        self._names = tuple(converters)
        self._get = attrgetter(*self._names)
        self._out = [(name, out) for name, (out, _) in converters.items() if out is not None]
        self._fill = [(name, getattr(cls, name).__set__, back) for name, (_, back) in converters.items()]

    def datum(self, value: T) -> dict[str, Any]:
        """The Avro datum of a value."""
        made = dict(zip(self._names, self._get(value), strict=True))
        for name, convert in self._out:
            made[name] = convert(made[name])
        return made

    def value(self, datum: dict[str, Any]) -> T:
        """The value of an Avro datum. Raises ValueError for a word that no enum knows."""
        made = object.__new__(self.cls)
        for name, fill, convert in self._fill:
            given = datum[name]
            fill(made, given if convert is None else convert(given))
        return made


def _converters(hint: Any) -> tuple[Convert | None, Convert | None]:
    if get_origin(hint) is UnionType:
        return _union(get_args(hint))
    if get_origin(hint) is tuple:
        out, back = _converters(get_args(hint)[0])
        if out is None or back is None:
            return list, tuple
        return (lambda items: [out(item) for item in items]), (lambda items: tuple([back(item) for item in items]))
    if hint is UUID:
        return bytes_of, uuid_of
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return None, hint
    if is_dataclass(hint):
        shape: Shape[Any] = Shape(hint)  # type: ignore[arg-type]
        return shape.datum, shape.value
    return None, None


def _union(members: tuple[Any, ...]) -> tuple[Convert | None, Convert | None]:
    optional = NoneType in members
    rest = [_converters(member) for member in members if member is not NoneType]
    out = next((convert for convert, _ in rest if convert), None)
    backs = [convert for _, convert in rest if convert]
    back = backs[0] if len(backs) == 1 else (_first_of(backs) if backs else None)
    if not optional:
        return out, back
    return _or_none(out), _or_none(back)


def _or_none(convert: Convert | None) -> Convert | None:
    if convert is None:
        return None
    return lambda value: None if value is None else convert(value)


def _first_of(converts: list[Convert]) -> Convert:
    def convert(value: Any) -> Any:
        for attempt in converts[:-1]:
            try:
                return attempt(value)
            except ValueError:
                continue
        return converts[-1](value)

    return convert
