"""How the ledger's schema came about, for Alembic."""
