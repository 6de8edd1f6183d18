"""The files of a record as types, and the one place that reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

import pydantic
from typing_extensions import TypedDict  # pydantic's own, until Python 3.12

from erkeras.errors import InputError
from erkeras.files import read_regular

#: Bytes that a file of JSON may have.
_MOST = 2**24

_Whole = Annotated[int, pydantic.Field(ge=0, lt=2**31)]
_Side = Annotated[int, pydantic.Field(ge=1, le=2**16)]
_Label = Annotated[int, pydantic.Field(ge=-(2**31), lt=2**31)]
_Index = Annotated[int, pydantic.Field(ge=-(2**63), lt=2**63)]
_Count = Annotated[int, pydantic.Field(ge=-(2**53), le=2**53)]


class _Attack(TypedDict):
    name: str
    config: NotRequired[dict[str, Any]]


class _Settings(TypedDict):
    """Lists the keys of `settings.json`. Other keys are for people."""

    format: int
    images: _Whole
    image_shape: Annotated[list[_Side], pydantic.Field(min_length=3, max_length=3)]
    attacks: list[_Attack]
    model: NotRequired[str]
    digest: NotRequired[str | None]
    dataset: NotRequired[str]
    split: NotRequired[Literal["train", "validation", "test"]]
    limit: NotRequired[_Whole | None]
    seed: NotRequired[Annotated[int, pydantic.Field(ge=0, lt=2**31)]]
    part: NotRequired[Literal["I", "II"] | None]
    threat: NotRequired[dict[str, Any] | None]
    internal_batch: NotRequired[Annotated[int, pydantic.Field(ge=1, lt=2**31)]]


class _Example(TypedDict):
    """Lists the keys of a line of `examples.jsonl`."""

    index: _Index
    label: _Label
    clean_prediction: _Label
    broken_by: str | None
    prediction: _Label
    distance: float
    queries: dict[str, _Count]
    gradients: dict[str, _Count]


class _Result(TypedDict):
    """Lists the keys of `result.json`."""

    seconds: NotRequired[dict[str, float]]
    unconfirmed: NotRequired[dict[str, _Count]]
    summary: NotRequired[dict[str, Any]]


class _Format(TypedDict):
    format: int


_FORMAT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(_Format)
_SETTINGS: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(_Settings)
_EXAMPLE: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(_Example)
_RESULT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(_Result)


def read_settings(path: Path) -> dict[str, Any]:
    """Reads `settings.json`; of another format, without a further look at it.

    Raises:
        InputError: where it cannot be read, or a key is missing or of another type.
    """
    found = _read(path)
    _check(_FORMAT, found, path)
    if found["format"] == 1:
        _check(_SETTINGS, found, path)
    return found


def read_result(path: Path) -> dict[str, Any]:
    """Reads `result.json`.

    Raises:
        InputError: as `read_settings`.
    """
    found = _read(path)
    _check(_RESULT, found, path)
    return found


def parse_example(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """Makes an example of a line of `examples.jsonl`.

    Args:
        line: JSON.
        path, number: of the file and of the line, for errors.

    Raises:
        InputError: where it is no example.
    """
    try:
        found: dict[str, Any] = json.loads(line)
        _EXAMPLE.validate_python(found, strict=True)
    except pydantic.ValidationError as error:
        raise no_example(path, number, _reason(error)) from error
    except (ValueError, RecursionError) as error:
        raise no_example(path, number, "it is no JSON") from error
    return found


def no_example(path: Path, number: int, reason: str) -> InputError:
    """Makes the error for a line that is no example."""
    return InputError(
        f"{path} has a line that is no example, line {number} ({reason}): copy the record again, or evaluate again."
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(read_regular(path, _MOST))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: copy the record again, or evaluate again.") from error


def _check(adapter: pydantic.TypeAdapter[Any], found: Any, path: Path) -> None:
    try:
        adapter.validate_python(found, strict=True)
    except pydantic.ValidationError as error:
        raise InputError(
            f"{path} cannot be read ({_reason(error)}): copy the record again, or evaluate again."
        ) from error


def _reason(error: pydantic.ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))[:100]
    return f"{place}: {first['msg']}" if place else first["msg"]
