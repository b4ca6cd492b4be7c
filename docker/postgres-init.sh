#!/bin/sh
# Runs once, when the database is made: login users for the roles that `audittrail migrate` grants rights to.
set -eu
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set sink_password `cat /run/secrets/sink_password`
\set gateway_password `cat /run/secrets/gateway_password`
CREATE ROLE audittrail_writer NOLOGIN;
CREATE ROLE audittrail_reader NOLOGIN;
CREATE ROLE audittrail_sink LOGIN PASSWORD :'sink_password' IN ROLE audittrail_writer;
CREATE ROLE audittrail_gateway LOGIN PASSWORD :'gateway_password' IN ROLE audittrail_reader;
SQL
