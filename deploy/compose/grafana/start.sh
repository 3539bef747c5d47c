#!/bin/sh
# Grafana takes what its data source needs from the environment: the secret goes there from its file, and nowhere else.
set -eu
CALIB_INFLUXDB_PASSWORD=$(cat "${CALIB_SECRETS:-/run/calib/grafana}/influxdb")
export CALIB_INFLUXDB_PASSWORD
exec "${CALIB_GRAFANA:-/run.sh}"
