#!/bin/bash
# Makes in a namespace what Airflow's chart (airflow.yaml) and the jobs need: secrets that are not there yet, rights, the spool,
# InfluxDB, Grafana. May run again at any time. Databases are yours: their addresses stand in files, one line each.
set -euo pipefail
if [ $# -ne 3 ]; then
  echo "usage: $0 NAMESPACE LEDGER_FILE AIRFLOW_FILE   (files with addresses: postgresql+psycopg://USER:PASSWORD@HOST/DATABASE)" >&2
  exit 2
fi
namespace=$1 ledger=$2 database=$3
here=$(cd "$(dirname "$0")" && pwd)
deploy=$(dirname "$here")
k() { "${KUBECTL:-kubectl}" --namespace "$namespace" "$@"; }
there() { k get "$@" --ignore-not-found --output name | grep -q .; }
random() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
line() { tr -d '\r\n' < "$1"; }
configmap() { k create configmap "$@" --dry-run=client --output yaml | k apply --server-side --force-conflicts --filename -; }

there namespace "$namespace" || k create namespace "$namespace"
# Jobs are made for `restricted`, and are refused where they are not.
k label --overwrite namespace "$namespace" pod-security.kubernetes.io/enforce=baseline pod-security.kubernetes.io/warn=restricted

# Through files that nobody else can read: what stands in a command line is seen by others.
umask 077
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
if ! there secret calib-influxdb; then
  mkdir "$files/influxdb"
  for name in admin admin_token mirror grafana; do random > "$files/influxdb/$name"; done
  k create secret generic calib-influxdb --from-file "$files/influxdb"
fi
secret() { k get secret "$1" --output "go-template={{index .data \"$2\" | base64decode}}"; }
if ! there secret calib-grafana; then
  mkdir "$files/grafana"
  random > "$files/grafana/admin"
  secret calib-influxdb grafana > "$files/grafana/influxdb"
  k create secret generic calib-grafana --from-file "$files/grafana"
fi
if ! there secret calib-airflow; then
  mkdir "$files/airflow"
  line "$ledger" > "$files/airflow/ledger"
  line "$database" > "$files/airflow/connection"
  head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n' > "$files/airflow/fernet-key"
  random > "$files/airflow/api-secret-key"
  random > "$files/airflow/jwt-secret"
  printf '{"conn_type": "calib_influxdb", "host": "http://calib-influxdb:8086", "login": "mirror", "password": "%s", "extra": {"database": "calib"}}' \
    "$(secret calib-influxdb mirror)" > "$files/airflow/influxdb"
  k create secret generic calib-airflow --from-file "$files/airflow"
fi

configmap calib-influxdb-users --from-file "$deploy/compose/influxdb"
configmap calib-grafana-sources --from-file "$deploy/grafana/provisioning/datasources"
configmap calib-grafana-providers --from-file "$deploy/grafana/provisioning/dashboards"
configmap calib-grafana-dashboards --from-file "$deploy/grafana/dashboards"
for name in rights spool influxdb grafana; do
  k apply --server-side --filename "$here/$name.yaml"
done
