#!/bin/bash
# Both databases to their newest version, the connections, and the example's runs; may run again at any time.
set -euo pipefail
airflow db migrate
calib db upgrade
import=$(mktemp --suffix=.json)
trap 'rm -f "$import"' EXIT
python "${CALIB_COMPOSE:-/opt/calib/compose}/connections.py" "${CALIB_SECRETS:-/run/calib/airflow}/influxdb" "$import"
airflow connections import --overwrite "$import"
# Where the example's workflows find runs; with workflows of your own, leave CALIB_ZEE_RUNS out.
if [ -n "${CALIB_ZEE_RUNS:-}" ] && [ ! -e "$CALIB_ZEE_RUNS" ]; then
  python -m zee.simulate --out "$(dirname "$CALIB_ZEE_RUNS")"
fi
