"""How soon after the end of a run its first job is submitted."""
