"""How long it takes to group many runs."""
