#!/usr/bin/env bash
# Makes sure that the programs are there that some tests need beside Go: setup.sh PART...
#   redis  postgresql15  java  maven  cc
# Where they are missing they are installed on Debian and its kin as root; elsewhere it says how to get
# them and goes on: the tests that need them are then left out, and `make test` names those.
set -euo pipefail

have() {
	case $1 in
	redis) command -v redis-server ;;
	postgresql15) test -x /usr/lib/postgresql/15/bin/postgres ;;
	java) command -v java ;;
	maven) command -v mvn ;;
	cc) command -v cc || command -v gcc || command -v clang ;;
	*) echo "setup.sh: unknown part $1" >&2; exit 2 ;;
	esac >/dev/null
}

packages() {
	case $1 in
	redis) echo redis-server ;;
	postgresql15) echo postgresql-15 ;;
	java) echo openjdk-17-jre-headless ;;
	maven) echo maven ;;
	cc) echo gcc libc6-dev ;;
	esac
}

missing=()
for part in "$@"; do
	have "$part" || missing+=("$part")
done
((${#missing[@]})) || exit 0

wanted=()
for part in "${missing[@]}"; do
	read -ra names <<<"$(packages "$part")"
	wanted+=("${names[@]}")
done

if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
	echo "not installed: ${missing[*]}. Tests that need them are left out. On Debian: apt-get install ${wanted[*]}" >&2
	exit 0
fi

# RUNLEVEL=1 keeps packages from starting their services: the tests start their own.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get update -qq || echo "apt-get update: exit code $?" >&2
for part in "${missing[@]}"; do
	read -ra names <<<"$(packages "$part")"
	apt-get install -y -qq --no-install-recommends "${names[@]}" </dev/null >/dev/null ||
		echo "could not install ${names[*]}; tests that need $part are left out" >&2
done
