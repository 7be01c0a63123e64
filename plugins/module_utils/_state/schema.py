# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON documents of a fixed shape: plain data <-> dataclasses. Pure.

A field without a default must be in the document. A field with a default may be missing, as files of earlier releases
lack it; it is always written. A field with C(omitted(DEFAULT)) is written only if its value differs from the default.
A field C(Optional[DATACLASS]) holds None for the empty object.

Types: bool, int, float, str, Literal, dataclasses, tuple[X, ...] (a list), dict[str, X], and Annotated with functions
that check a value: they take the member's path and the value, and raise ValueError.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import typing as t

from .. import _params as p

T = t.TypeVar("T")
MAX_NUMBER = 0xFFFFFFFF  # the largest number of a state: a mark, the seed of a hash
MAX_TEXT = 4096  # bytes of a path, by far the longest text of a state


class ShapeError(ValueError):
    """A document has another shape. The message names the member and the reason."""


def omitted(default: T) -> T:
    """A field that is written only if its value differs from this one."""
    return dataclasses.field(default=default, metadata={"omitted": True})  # pylint: disable=invalid-field-call


def decode(content: bytes) -> t.Any:
    """JSON -> plain data. Raises ShapeError also for duplicate members, NaN and Infinity."""
    try:
        return json.loads(content.decode(), object_pairs_hook=_members_of, parse_constant=_no_number)
    except RecursionError as exc:
        raise ShapeError("it is nested too deeply") from exc
    except UnicodeDecodeError as exc:
        raise ShapeError(f"byte {exc.start} is not UTF-8") from exc
    except json.JSONDecodeError as exc:
        raise ShapeError(f"line {exc.lineno}, column {exc.colno}: no valid JSON: {exc.msg}") from exc
    except ShapeError:
        raise
    except ValueError as exc:  # Python refuses numbers of thousands of digits
        raise ShapeError(f"no valid JSON: {exc}") from exc


def _members_of(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for n, (name, _value) in enumerate(pairs) if name in [other for other, _v in pairs[:n]])
        raise ShapeError(f"the member {_shown(twice)} is there twice")
    return found


def _no_number(text: str) -> t.Any:
    raise ShapeError(f"{text} is not a number in JSON")


def encode(document: t.Any) -> str:
    """The text of a file: the same bytes for the same data, whoever writes it."""
    return json.dumps(document, indent=4, sort_keys=True) + "\n"


def parse(kind: type[T], document: t.Any, where: str = "") -> T:
    """Plain data -> an object of this dataclass. C(where): the member's path, for messages. Raises ShapeError."""
    if not isinstance(document, t.Mapping):
        raise wrong(where, document, "an object")
    hints = _hints(t.cast(t.Any, kind))
    prefix = f"{where}." if where else ""
    for name in document:
        if name not in hints:
            raise ShapeError(f"{prefix}{str(name)[:40]}: unknown member")
    values = {}
    for field in dataclasses.fields(t.cast(t.Any, kind)):
        if field.name in document:
            values[field.name] = _value(hints[field.name], document[field.name], prefix + field.name)
        elif field.default is dataclasses.MISSING:
            raise ShapeError(f"{prefix}{field.name}: missing")
    return kind(**values)


@functools.cache
def _hints(kind: t.Any) -> dict[str, t.Any]:
    return t.get_type_hints(kind, include_extras=True)


def _value(kind: t.Any, value: t.Any, where: str) -> t.Any:
    origin, args = t.get_origin(kind), t.get_args(kind)
    if origin is t.Annotated:
        return _checked(args[0], args[1:], value, where)
    if origin is t.Union:  # Optional
        return None if value == {} and dataclasses.is_dataclass(args[0]) else _value(args[0], value, where)
    if origin is t.Literal:
        if not isinstance(value, str) or value not in args:
            raise wrong(where, value, " or ".join(map(_shown, args)))
        return str(value)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise wrong(where, value, "a list")
        return tuple(_value(args[0], one, f"{where}[{i}]") for i, one in enumerate(value))
    if origin is dict:
        if not isinstance(value, t.Mapping):
            raise wrong(where, value, "an object")
        return {_text(key, where): _value(args[1], one, f"{where}.{str(key)[:40]}") for key, one in value.items()}
    return parse(t.cast(type, kind), value, where) if dataclasses.is_dataclass(kind) else _scalar(kind, value, where)


def _checked(kind: t.Any, checks: t.Iterable[t.Callable[[str, t.Any], t.Any]], value: t.Any, where: str) -> t.Any:
    result = _value(kind, value, where)
    for check in checks:
        try:
            check(where, result)
        except ValueError as exc:
            raise ShapeError(str(exc)) from exc
    return result


def _scalar(kind: type, value: t.Any, where: str) -> t.Any:
    if kind is bool:
        if not isinstance(value, bool):
            raise wrong(where, value, "true or false")
        return value
    if kind is str:
        return _text(value, where)
    numbers = (int, float) if kind is float else (int,)
    if not isinstance(value, numbers) or isinstance(value, bool):
        raise wrong(where, value, "a number" if kind is float else "a whole number")
    if not 0 <= value <= MAX_NUMBER:
        raise wrong(where, value, f"between 0 and {MAX_NUMBER}")
    return value


def _text(value: t.Any, where: str) -> str:
    if not isinstance(value, str):
        raise wrong(where, value, "a text")
    if len(value) > MAX_TEXT:
        raise ShapeError(f"{where}: longer than {MAX_TEXT} characters")
    try:
        return str(p.text(where, value))
    except ValueError as exc:
        raise ShapeError(str(exc)) from exc


def wrong(where: str, value: t.Any, expected: str) -> ShapeError:
    """The error of a member with another value than expected."""
    return ShapeError(f"{where + ': ' if where else ''}{_shown(value)} is not {expected}")


def _shown(value: t.Any) -> str:
    """A value as it stands in the file, shortened."""
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, t.Mapping):
        return "an object"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**20:
        return "a number of more than 20 digits"
    text = json.dumps(value)
    return text if len(text) <= 50 else f"{text[:50]}…"


def plain(value: t.Any, complete: bool = False) -> t.Any:
    """An object -> plain data. C(complete): with the fields that have their default, which the file omits."""
    if isinstance(value, (tuple, list)):
        return [plain(one, complete) for one in value]
    if isinstance(value, dict):
        return {key: plain(one, complete) for key, one in value.items()}
    if not dataclasses.is_dataclass(value):
        return value
    result = {}
    for field in dataclasses.fields(value):
        one = getattr(value, field.name)
        if complete or one != field.default or "omitted" not in field.metadata:
            empty = one is None and "omitted" not in field.metadata
            result[field.name] = {} if empty else plain(one, complete)
    return result
