#!/bin/bash
# A database and a user for Airflow, and for the ledger; run once by the image, when its volume is new.
set -euo pipefail
for name in airflow calib; do
  # The password goes through standard input: arguments are seen by others.
  { printf '\\set name %s\n' "$name"
    printf "\\\\set password '%s'\n" "$(cat "${CALIB_SECRETS:-/run/calib/postgres}/$name")"
    cat <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name" ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
  } | psql --set ON_ERROR_STOP=1 --no-psqlrc --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB"
done
