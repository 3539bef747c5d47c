"""What a person waits for at a ledger of a million run-tasks."""
