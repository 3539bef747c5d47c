#!/bin/bash
# Run by the image before HTCondor starts: the pool's signing key, tokens for its daemons and for Airflow, the jobs' user.
set -euo pipefail
umask 077
keys=${CALIB_CONDOR_KEYS:-/etc/condor/passwords.d} tokens=${CALIB_CONDOR_TOKENS:-/etc/condor/tokens.d}
airflow=${CALIB_SECRETS:-/run/calib/condor}
# The user of the jobs is Airflow's own, so that both can write to CALIB_HOME; not the group, which is root's: HTCondor
# refuses to run a job with that.
getent group airflow >/dev/null || groupadd --gid 50000 airflow
getent passwd airflow >/dev/null || useradd --uid 50000 --gid airflow --create-home airflow
mkdir -p "$keys" "$tokens"
[ -s "$keys/POOL" ] || head -c 48 /dev/urandom | base64 -w 0 > "$keys/POOL"
# New ones at each start; those of a former start hold as long as the key does.
condor_token_create -identity condor@calib -key POOL > "$tokens/daemons"
condor_token_create -identity airflow@calib -key POOL > "$airflow/.token.new"
chown 50000:0 "$airflow" "$airflow/.token.new"
chmod 0400 "$airflow/.token.new"
mv -f "$airflow/.token.new" "$airflow/token"
