#!/bin/sh
# Writes a number; job 3 fails until somebody mends it.
set -eu
echo "$CALIB_CAMPAIGN $CALIB_TASK $2 $CALIB_ATTEMPT $DAG_RUN" >> "$CONTROL/by-hand"
[ "$2" != 3 ] || [ -e "$CONTROL/mended" ] || { echo "broken on purpose" >&2; exit 65; }
[ "$3" = 5 ]
echo $(($1 + $2)) > number.txt
