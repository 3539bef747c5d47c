#!/bin/sh
# Counts its executions, and does what the file <control>/<run> asks for: fail once, fail,
# sleep, or hold until the file is gone, with half of the product written or without.
set -eu
run=$1 job=$2
echo "$run $job $CALIB_ATTEMPT" >> "$TOY_CONTROL/executions"
[ -z "${AIRFLOW_HOME:-}" ] || { echo "AIRFLOW_HOME leaked into the job" >&2; exit 9; }
if [ -e "$TOY_CONTROL/$run" ]; then
  case $(cat "$TOY_CONTROL/$run") in
    once) [ "$job$CALIB_ATTEMPT" != 01 ] || exit 3 ;;
    always) echo "broken on purpose" >&2; exit 4 ;;
    sleep*) sleep "$(cut -d' ' -f2 "$TOY_CONTROL/$run")" ;;
    hold) while [ -e "$TOY_CONTROL/$run" ]; do sleep 0.5; done ;;
    half) echo "$run" > result.txt; while [ -e "$TOY_CONTROL/$run" ]; do sleep 0.5; done ;;
    empty) : > result.txt; exit 0 ;;
  esac
fi
echo "{\"type\": \"value\", \"name\": \"events\", \"value\": $run}" >> "$CALIB_REPORT"
echo "$run $job" > result.txt
