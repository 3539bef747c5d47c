"""The ledger's events as points in an InfluxDB."""
