"""Messages to people: consumers of the ledger's events with cursors of their own (rule 68)."""
