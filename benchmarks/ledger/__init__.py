"""How long the ledger takes, and how that grows with the runs in it."""
