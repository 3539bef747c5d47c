"""From what sources say to runs and groups in the ledger."""
