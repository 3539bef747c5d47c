"""The database that is the truth about runs, groups, jobs and payloads."""
