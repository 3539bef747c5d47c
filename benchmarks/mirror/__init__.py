"""The mirror beside the raw influxdb-client, its lag, and what its events cost."""
