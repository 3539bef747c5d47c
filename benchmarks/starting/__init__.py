"""What a task's process pays for this package before its ledger is open."""
