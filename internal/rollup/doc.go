// Package rollup counts events by minute, source, action and outcome from what the sink keeps in `rollups`: the format of its rows, and a
// reader that answers histograms and facets over a range of time without opening segments.
//
// The sink appends rows when a bundle is complete. What is in open bundles is in no row: [Tail] counts it from the tail. Minutes that a range
// covers only in part are counted from `events`. In one snapshot [Read] and [Tail] together count every event of the range once, the late ones
// in the minute in which they occurred.
//
// It does not know the names behind source and action ids (tables sources and actions), and filters nothing but time.
package rollup
