#!/usr/bin/env bash
# Regenerates everything that is made from proto/, with pinned tools and without the network once they
# are built. `generate.sh --check` writes nothing and fails when a committed file is not what would be
# generated, also when a file is left over from a message that no longer exists.
set -euo pipefail
cd "$(dirname "$0")/../.."

buf() { go tool -modfile=internal/tools/buf.mod buf "$@"; }

generated() { # DIR: the generated files below DIR, relative to it
	(cd "$1" && find proto/audittrail -name '*.pb.go' -o -name '*.pb.gw.go' -o -name '*.swagger.json') | LC_ALL=C sort
}

buf lint

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
buf generate --output "$fresh"
gofmt -w "$fresh/proto"

if [[ "${1:-}" != --check ]]; then
	# Only what changed is written, so that timestamps, and with them build caches, stay.
	comm -23 <(generated .) <(generated "$fresh") | xargs -r rm -v --
	while read -r f; do
		cmp -s "$fresh/$f" "$f" || install -Dm644 "$fresh/$f" "$f"
	done < <(generated "$fresh")
	exit 0
fi

stale=0
while read -r f; do
	if ! cmp -s "$fresh/$f" "$f"; then
		echo "not fresh: $f" >&2
		stale=1
	fi
done < <({ generated .; generated "$fresh"; } | LC_ALL=C sort -u)
if ((stale)); then
	echo 'run `make generate` and commit the result' >&2
	exit 1
fi
