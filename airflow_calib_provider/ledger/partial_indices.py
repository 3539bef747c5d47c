"""Indices of some rows only, as the migrations make them."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Index, text

from airflow_calib_provider.ledger import tables


@cache
def partial_indices() -> tuple[Index, ...]:
    """All of them, made when they are asked for.

    Not with the tables: to know of an index's condition SQLAlchemy imports the dialects, that of PostgreSQL among them,
    in every process.
    """
    opening, uncleaned = text("opening IS NOT NULL"), text("cleaned_at IS NULL")
    unsummed, dropping = (
        text("checksum IS NULL AND state = 'accepted'"),
        text("drop_at IS NOT NULL AND removed_at IS NULL"),
    )
    product = tables.product
    group, of_event = tables.run_group.c, tables.event.c
    return (
        Index(
            "ix_run_group_opening",
            group.opening,
            group.campaign,
            group.workflow,
            group.grouping,
            group.first_run,
            sqlite_where=opening,
            postgresql_where=opening,
        ),
        Index(
            "ix_generation_uncleaned", tables.generation.c.ended_at, sqlite_where=uncleaned, postgresql_where=uncleaned
        ),
        Index(
            "ix_product_unsummed",
            *product.primary_key.columns,
            sqlite_where=unsummed,
            postgresql_where=unsummed,
        ),
        Index(
            "ix_product_drop",
            product.c.state,
            product.c.drop_at,
            sqlite_where=dropping,
            postgresql_where=dropping,
        ),
        Index(
            "ix_event_group_history",
            of_event.campaign,
            of_event.workflow,
            of_event.group_name,
            of_event.id,
            sqlite_where=tables.GROUP_HISTORY,
            postgresql_where=tables.GROUP_HISTORY,
        ),
        Index(
            "ix_event_campaign_life",
            of_event.campaign,
            of_event.id,
            sqlite_where=tables.CAMPAIGN_LIFE,
            postgresql_where=tables.CAMPAIGN_LIFE,
        ),
    )
