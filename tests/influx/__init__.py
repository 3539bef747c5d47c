"""The project's own InfluxDB servers: built from their Go modules, private to a test run, without Docker."""
