#!/bin/sh
# Makes the secrets that compose.yaml mounts, random ones, where there are none yet: secrets.sh [DIR].
# The directory is for its owner only; the files in it are readable, because the users inside the
# containers are others.
set -eu
dir=${1:-$(dirname "$0")/secrets}
mkdir -p "$dir"
chmod 700 "$dir"
umask 022

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# Written aside and renamed: a secret is whole or not there.
write() { # NAME, content on standard input
	cat >"$dir/.$1" && mv "$dir/.$1" "$dir/$1"
}

for name in postgres_password sink_password gateway_password redis_password; do
	[ -e "$dir/$name" ] || random | write "$name"
done
# What PostgreSQL's clients read passwords from: host:port:database:user:password.
for user in postgres sink gateway; do
	login=audittrail_$user
	[ "$user" = postgres ] && login=postgres
	printf 'postgres:5432:audittrail:%s:%s\n' "$login" "$(cat "$dir/${user}_password")" | write "${user}_pgpass"
done
[ -e "$dir/gateway_key" ] || head -c 32 /dev/urandom | write gateway_key
