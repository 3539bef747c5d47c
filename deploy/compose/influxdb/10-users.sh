#!/bin/bash
# The database of InfluxQL for the bucket, a user who writes it (the mirror) and one who reads it (Grafana); run once by the
# image, when its volume is new.
set -euo pipefail
secrets=${CALIB_SECRETS:-/run/calib/influxdb}
org=$DOCKER_INFLUXDB_INIT_ORG bucket=$DOCKER_INFLUXDB_INIT_BUCKET_ID
influx v1 dbrp create --org "$org" --db calib --rp autogen --bucket-id "$bucket" --default
influx v1 auth create --org "$org" --username mirror --password "$(cat "$secrets/mirror")" \
  --read-bucket "$bucket" --write-bucket "$bucket"
influx v1 auth create --org "$org" --username grafana --password "$(cat "$secrets/grafana")" --read-bucket "$bucket"
