// Package views is the gateway: it answers queries from PostgreSQL, from a cache of records, and from goka views of what the
// enricher knows of sources. It implements QueryService and AdminService; whoever serves them brings listeners and interceptors.
//
// A reading goes this way:
//
//	filter_parse.go ─▶ narrow.go ─▶ candidates.go ─▶ segments.go ─▶ evaluate.go ─▶ list.go
//	what is asked      what it      rows of events   bundles that   the one        pages, tokens
//	(fields.go)        implies      by time          may hold it    that decides   (page.go)
//	                               └───────────── walk.go ─────────────┘
//
// or, where few bundles above the place may hold something below it, by bundles instead of rows: directory.go ─▶ merge.go.
//
// SQL and Bloom filters only spare work: what is returned was decided by one evaluator in Go over the encoded record, in lists,
// counts, exports and tails alike.
//
// Guarantees:
//   - A record is returned as it was stored: every field of the producer and the stamps, with `id` and `position` added.
//   - A walk through the pages of a list is one state of the store: the first page fixes the size of each log, so
//     that what comes later neither repeats nor disappears, and no transaction is held.
//   - Each call is answered in bounded time and memory. A search that takes too long ends its page early, with the token of the next.
//   - A tail sends every entry of every log exactly once from its token on.
//   - Redis can be away, slow or hostile: cached records are authenticated, and a call never fails because of it.
//
// Lists are ordered by id: by `occurred_at` in whole milliseconds, newest first; within one millisecond by the rest of the id.
//
// What it does not do: it does not authenticate. Access control and proofs are issues of their own. They fit in here: access control adds
// a filter to each filter (Deps.Scope) and is checked after every cache, in get.go; proofs read tiles0 beside segments.go; new fields of
// the language are a row in fields.go, new indexes another source of candidates beside candidates.go.
package views
