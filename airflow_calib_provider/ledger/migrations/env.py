"""Runs Alembic on the connection that :mod:`airflow_calib_provider.ledger.schema` hands over."""

from alembic import context

from airflow_calib_provider.ledger.schema import VERSION_TABLE
from airflow_calib_provider.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
