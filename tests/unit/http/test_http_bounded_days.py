"""No route takes a day or an instant at the end of the calendar.

There the days around it do not exist, and a range up to it is three million days long: both were a
server error or a passed deadline before they were bounded.
"""

import importlib
import pkgutil
import types
import typing
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

import troupe.http
from troupe.http.conventions import BodyModel, Day, Instant, QueryModel, RangeQuery
from troupe.http.data_models import DaysBody

CHECKED_WHEN_RESOLVED = (RangeQuery, DaysBody)
"""Their days are checked by `RangeQuery.resolve`, which knows how long a range may be."""


def _models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from _models(model)


def _is_day(annotation: Any) -> bool:
    if typing.get_origin(annotation) in {typing.Union, types.UnionType, typing.Annotated, list}:
        return any(map(_is_day, typing.get_args(annotation)))
    return isinstance(annotation, type) and issubclass(annotation, date)


def _dated() -> list[tuple[str, FieldInfo]]:
    for module in pkgutil.walk_packages(troupe.http.__path__, "troupe.http."):
        importlib.import_module(module.name)
    found = {
        f"{model.__module__}.{model.__name__}.{name}": field
        for base in (QueryModel, BodyModel)
        for model in _models(base)
        if model.__module__.startswith("troupe.") and not issubclass(model, CHECKED_WHEN_RESOLVED)
        for name, field in model.model_fields.items()
        if _is_day(field.annotation)
    }
    return sorted(found.items())


DATED = _dated()


def test_some_routes_take_days() -> None:
    assert len(DATED) > 5


@pytest.mark.parametrize(("name", "field"), DATED, ids=[name for name, _ in DATED])
def test_every_day_is_bounded(name: str, field: FieldInfo) -> None:
    checks: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
    for text in ("9999-12-31", "0001-01-01", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00Z"):
        with pytest.raises(ValidationError):
            checks.validate_python(text)


def test_days_that_people_ask_for_are_taken() -> None:
    assert TypeAdapter(Day).validate_python("2199-12-31") == date(2199, 12, 31)
    assert (
        TypeAdapter(Instant).validate_python("2000-01-01T00:00:00Z") < datetime.now().astimezone()
    )
