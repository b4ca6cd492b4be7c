package sink

import (
	"strings"
	"testing"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/proto/stream"
)

// TestWedgeEnds: the request ends with the enricher's answer (its commit goes back) and with progress, and stands while nothing happens.
func TestWedgeEnds(t *testing.T) {
	stuck := seen{slot{2, 0}, 7}
	var w wedgeDetector
	for i, l := range []struct {
		at          seen
		commit, end int64
		want        bool
	}{
		{stuck, 9, 7, true},
		{stuck, 9, 8, true},                  // something more was written, not read yet
		{stuck, 2, 9, false},                 // answered
		{stuck, 8, 20, false},                // being made again, and not read yet
		{seen{slot{5, 0}, 15}, 9, 21, false}, // the end of before was not reached, and the log goes on
		{seen{slot{9, 0}, 21}, 9, 21, false},
	} {
		if got := w.observe(l.at, l.commit, l.end); got != l.want {
			t.Errorf("look %d: wedged %v, want %v", i, got, l.want)
		}
	}
}

// TestMissing: what is asked for, and what enrichers are told of gaps.
func TestMissing(t *testing.T) {
	at := seen{next: slot{20, 3}}
	gap := func(from, end int64) span { return span{slot{from, 1}, slot{end, 0}} }
	for name, c := range map[string]struct {
		wedged        bool
		gaps          []span
		start, commit int64
		want          stream.SinkNote
	}{
		"nothing":                           {false, nil, 0, 30, stream.SinkNote{Refill: stream.NoCommit}},
		"wedged":                            {true, nil, 0, 30, stream.SinkNote{Refill: 20}},
		"wedged, a part of the input gone":  {true, nil, 25, 30, stream.SinkNote{Refill: 20}},
		"wedged, all of the input gone":     {true, nil, 30, 30, stream.SinkNote{Refill: stream.NoCommit}},
		"a gap whose input is gone":         {false, []span{gap(5, 8)}, 8, 30, stream.SinkNote{Refill: stream.NoCommit, Unsure: 8}},
		"a gap whose input is there":        {false, []span{gap(5, 8)}, 3, 30, stream.SinkNote{Refill: 5, Unsure: 8}},
		"a gap whose input is there partly": {false, []span{gap(5, 8)}, 7, 30, stream.SinkNote{Refill: 7, Unsure: 8}},
		"the first that can be filled":      {false, []span{gap(5, 8), {slot{9, 1}, slot{9, 4}}}, 8, 30, stream.SinkNote{Refill: 9, Unsure: 10}},
		"wedged and a gap":                  {true, []span{gap(5, 8)}, 3, 30, stream.SinkNote{Refill: 20, Unsure: 8}},
		"the enricher is before it already": {false, []span{gap(5, 8)}, 3, 5, stream.SinkNote{Refill: stream.NoCommit, Unsure: 8}},
	} {
		if got := missing(at, c.wedged, c.gaps, c.start, c.commit); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// TestGapIsAskedFor (R14, R21): a drop whose first copy is not in the log is a gap; the sink asks for it, and says below which slot enrichers
// must not name first copies. When the event comes after all, the gap is filled and nothing is asked for any more. A sink that starts says so at once.
func TestGapIsAskedFor(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	note := func() string {
		commits, err := k.admin.FetchOffsets(t.Context(), string(stream.SinkGroup))
		if err != nil {
			return err.Error()
		}
		o, _ := commits.Lookup(stream.Records, 0)
		return o.Metadata
	}
	r := startSink(t, k, dsn)
	k.input(0, 2)
	k.expire(stream.Events, 0, 2) // what was in 0 and 1 is lost
	k.outputs(0, "2.0-3.0: B drop(1.0)")
	awaitNext(t, s, 0, slot{3, 0})
	k.enricherCommit(0, 3)
	waitFor(t, "the request", func() bool { return note() == "refill=2 unsure=3" })
	if at, err := FirstMissing(t.Context(), s.db, k.settings(), 0); err != nil || at != 2 {
		t.Errorf("the operator is told %d, %v; want 2", at, err)
	}
	r.stop()
	startSink(t, k, dsn, func(c *Config) { c.WatchInterval = 1 << 40 })
	waitFor(t, "the successor's note", func() bool { return note() == "unsure=3" })

	k.outputs(0, "2.0-3.0: B X")
	waitFor(t, "the gap is filled", func() bool { return openGaps(t, s) == 1 }) // the other is lost for good
	if have := logNames(t, s, 0); !strings.HasSuffix(have, " X") {
		t.Errorf("the log is %s; want X at its end", have)
	}
	if at, err := FirstMissing(t.Context(), s.db, k.settings(), 0); err != nil || at != stream.NoCommit {
		t.Errorf("the operator is told %d, %v; want nothing", at, err)
	}
}

func openGaps(t *testing.T, s *store) (n int) {
	t.Helper()
	if err := s.db.QueryRow(t.Context(), "SELECT count(*) FROM audittrail.gaps WHERE filled_at IS NULL").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
