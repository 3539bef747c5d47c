"""The project's own PostgreSQL server: private to a test run, nothing installed on the machine for it."""
