"""What the ledger's tables are made of: types of columns, and how constraints are named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Dialect, Integer, MetaData, String, Text, TypeDecorator

from airflow_calib_provider.domain.round_key import RoundKey


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, always UTC, on every database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Stored in UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a naive time cannot be stored: {value}")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Read in UTC, which SQLite does not say."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None] | None:
        """In one step on SQLite, whose texts there are thousands of in a look at all that waits."""
        return _read_utc if dialect.name == "sqlite" else super().result_processor(dialect, coltype)


def _read_utc(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(f"{text}+00:00")


class AnyText(TypeDecorator[str]):
    """What a job, a machine or a server said, whatever is in it.

    PostgreSQL has no NUL in a text, no database half a character.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Stored without what a database refuses."""
        return None if value is None else value.replace("\x00", " ").encode("utf-8", "replace").decode()


class KeyOfRound(TypeDecorator[RoundKey]):
    """The name of a submission, which is read once: when its row leaves the ledger."""

    impl = String(400)
    cache_ok = True

    def process_bind_param(self, value: RoundKey | None, dialect: Dialect) -> str | None:
        """Stored as text."""
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> RoundKey | None:
        """Read back from it."""
        return None if value is None else RoundKey.parse(value)


BigId = BigInteger().with_variant(Integer, "sqlite")
Name = String(120)
State = String(20)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def name_column(name: str, **options: Any) -> Column[str]:
    """A column with a name that must be there."""
    return Column(name, Name, nullable=False, **options)
