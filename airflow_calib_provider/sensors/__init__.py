"""Tasks that wait for what the ledger says."""
