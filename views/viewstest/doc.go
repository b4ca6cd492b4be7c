// Package viewstest gives tests of the gateway a store with content: a database with the real schema, into which it writes logs as the sink
// does (rows, tail, segments, tiles and heads in one transaction), and events to put there.
package viewstest
