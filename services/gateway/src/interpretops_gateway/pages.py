"""Pages of lists: newest first, by a cursor that stays right while rows are added.

A cursor names the last row of a page, not a number of rows: what is inserted meanwhile comes before
it and moves nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy import tuple_

from interpretops_gateway.problems import invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import InstrumentedAttribute

RowT = TypeVar("RowT")
ItemT = TypeVar("ItemT", bound=BaseModel)

Limit = Annotated[int, Query(ge=1, le=200, description="Items per page.")]
Cursor = Annotated[
    str | None,
    Query(
        max_length=300,
        description="`next_cursor` of the page before, with the same filters.",
    ),
]


class Page(BaseModel, Generic[ItemT]):
    """A page of a list, newest first."""

    items: list[ItemT]
    next_cursor: str | None = Field(
        default=None, description="Give it as `cursor` for the next page; null on the last one."
    )


async def read_page(
    session: AsyncSession,
    query: Select[RowT],
    order: Sequence[InstrumentedAttribute[Any]],
    show: Callable[[RowT], ItemT],
    *,
    limit: int,
    cursor: str | None,
) -> Page[ItemT]:
    """One page of a query.

    Args:
        session: A `tenant_session`.
        query: What is listed, filtered and without an order.
        order: Columns that order it uniquely, all from the highest down.
        show: Makes an item of a row.
        limit: Items on the page.
        cursor: Where the page before ended.

    Raises:
        ProblemError: When the cursor is none of ours.
    """
    if cursor is not None:
        query = query.where(tuple_(*order) < tuple_(*_decode(cursor, order)))
    query = query.order_by(*(column.desc() for column in order)).limit(limit + 1)
    rows = list(await session.scalars(query))
    more = len(rows) > limit
    shown = rows[:limit]
    return Page(
        items=[show(row) for row in shown],
        next_cursor=_encode(shown[-1], order) if more else None,
    )


def _encode(row: object, order: Sequence[InstrumentedAttribute[Any]]) -> str:
    values = [getattr(row, column.key) for column in order]
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).decode().rstrip("=")


def _decode(cursor: str, order: Sequence[InstrumentedAttribute[Any]]) -> list[Any]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if not isinstance(values, list) or len(values) != len(order):
            raise ValueError
        return [
            _value(value, column.type.python_type)
            for value, column in zip(values, order, strict=True)
        ]
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise invalid(
            "cursor", "this is no cursor of this list", "take next_cursor of the page before"
        ) from None


def _value(value: Any, kind: type[Any]) -> Any:
    if kind is datetime:
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise ValueError
        return at
    if type(value) is not kind or "\0" in str(value):
        raise ValueError
    if kind is int and not -(2**63) <= value < 2**63:
        raise ValueError
    return value
