#!/bin/sh
# Makes the role of the service, which owns nothing: docs/operations.md, "The database". PostgreSQL's
# image runs this once, on a new volume, as the role that migrates.
set -eu

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv password APP_PASSWORD
CREATE ROLE app LOGIN PASSWORD :'password';
GRANT CONNECT ON DATABASE :"DBNAME" TO app;
GRANT USAGE ON SCHEMA public TO app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO app;

ALTER ROLE app SET timezone = 'UTC';
ALTER ROLE app SET statement_timeout = '8s';
ALTER ROLE app SET lock_timeout = '4s';
ALTER ROLE app SET idle_in_transaction_session_timeout = '10s';
SQL
