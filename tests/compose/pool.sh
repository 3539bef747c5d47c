#!/bin/bash
# Inside the namespaces of a test's pool, as root: a second pool with the settings ($SETTINGS) and the script ($SCRIPT) of the
# service `condor` below /tmp/calib-compose; a job of Airflow's user, by the token that the script made for it.
set -u
top=/tmp/calib-compose
mkdir -p $top/{log,run,lock,spool,execute,airflow,keys,tokens,job}
chown condor:condor $top/{log,run,lock,spool,execute}
printf '%s' "$SETTINGS" > $top/config
export CONDOR_CONFIG=$top/config CALIB_CONDOR_KEYS=$top/keys CALIB_CONDOR_TOKENS=$top/tokens CALIB_SECRETS=$top/airflow
bash -c "$SCRIPT" && key=$(sha256sum $top/keys/POOL) && bash -c "$SCRIPT" || exit 1
[ "$key" = "$(sha256sum $top/keys/POOL)" ] && echo "key kept"
echo "token $(stat -c '%u %a' $top/airflow/token)"
condor_master -f > $top/log/out 2>&1 &
master=$!
bash -c "for i in \$(seq 60); do ($CHECK) && exit 0; sleep 0.5; done; exit 1" && echo "healthy"
chown 50000:50000 $top/job
printf '%s\n' executable=/usr/bin/id output=$top/job/out error=$top/job/err log=$top/job/log request_memory=50 \
  request_disk=1 queue > $top/job/submit
as_airflow() { setpriv --reuid=50000 --regid=50000 --clear-groups env HOME=/tmp _CONDOR_SEC_TOKEN_DIRECTORY="$1" "${@:2}"; }
as_airflow $top/airflow condor_submit -name calib@calib $top/job/submit
for i in $(seq 60); do [ -s $top/job/out ] && break; sleep 0.5; done
cat $top/job/out
as_airflow $top/nothing condor_q -name calib@calib > /dev/null 2>&1 || echo "no token, no answer"
kill $master
for i in $(seq 40); do kill -0 $master 2> /dev/null || break; sleep 0.25; done
rm -rf $top
