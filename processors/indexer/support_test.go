package indexer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/internal/termindex"
	"github.com/maxviazov/audittrail/processors/sink/schema"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

// stored is a segment as a test filled it in.
type stored struct {
	termindex.Segment
	low, high event.ID
	terms     []uint64
	hashes    map[uint32]bool
}

// filled is a database with complete segments in it.
type filled struct {
	dsn      string // superuser
	db       *pgxpool.Pool
	rng      *rand.Rand
	sizes    map[int16]int64 // complete bundles
	segments []stored
	next     int
}

func newFilled(t testing.TB) *filled {
	t.Helper()
	dsn := embeddedtest.Postgres(t)
	if err := schema.Migrate(context.Background(), dsn, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	db, err := pgxpool.New(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return &filled{dsn: dsn, db: db, rng: rand.New(rand.NewPCG(7, 8)), sizes: make(map[int16]int64)}
}

// writer is the DSN of a login that may do what a sink may.
func (f *filled) writer(t testing.TB) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("indexer_%s", cfg.Database)
	if _, err := f.db.Exec(context.Background(), "CREATE ROLE "+name+" LOGIN PASSWORD 'x' IN ROLE "+schema.Writer); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("postgres://%s:x@%s:%d/%s?sslmode=disable", name, cfg.Host, cfg.Port, cfg.Database)
}

// event is one of 200 sources and 50,000 actors, some 306 bytes, with 2 or 3 attributes.
func (f *filled) event(at time.Time) *audittrailv1.Event {
	r := f.rng
	f.next++
	e := &audittrailv1.Event{
		Source: fmt.Sprintf("acme/team%d/service%d", r.IntN(10), r.IntN(20)), IdempotencyKey: fmt.Sprintf("key-%016x", r.Uint64()),
		OccurredAt: timestamppb.New(at), Action: fmt.Sprintf("thing%d.update", r.IntN(40)), Kind: audittrailv1.ActionKind(1 + r.IntN(4)),
		Outcome:    audittrailv1.Outcome(1 + r.IntN(3)),
		Actor:      &audittrailv1.Actor{Type: "user", Id: fmt.Sprintf("user-%d", int(r.ExpFloat64()*10_000)%50_000)},
		Resources:  []*audittrailv1.Resource{{Type: "document", Id: fmt.Sprintf("doc-%d", r.IntN(1_000_000))}},
		Context:    &audittrailv1.Context{Ip: fmt.Sprintf("10.%d.%d.%d", r.IntN(4), r.IntN(32), r.IntN(256)), TraceId: fmt.Sprintf("%032x", r.Uint64())},
		Attributes: map[string]string{"region": fmt.Sprintf("eu-%d", r.IntN(5)), "version": fmt.Sprintf("v%d", r.IntN(30))},
	}
	if f.next%2 == 0 {
		e.Attributes["ticket"] = fmt.Sprintf("T-%d", r.IntN(100_000))
	}
	return e
}

// add stores n bundles of a log, of today and the day before.
func (f *filled) add(t testing.TB, log int16, n, records int) {
	t.Helper()
	ctx := context.Background()
	today := time.Now().UTC()
	var tiles, rows [][]any
	hashes := make([]byte, 8192)
	for i := range n {
		day := int16(today.Unix()/86400 - 10957)
		if i < n/3 && f.sizes[log] == 0 {
			day--
		}
		s := stored{Segment: termindex.Segment{Log: log, Day: day, Bundle: f.sizes[log]}, hashes: make(map[uint32]bool)}
		var framed []byte
		var terms []uint64
		for j := range records {
			e := f.event(today.Add(-time.Duration(n-i)*time.Second + time.Duration(j)*time.Millisecond))
			raw, err := e.MarshalVT()
			if err != nil {
				t.Fatal(err)
			}
			framed = segment.AppendEntry(framed, segment.KindRecord, raw)
			terms, _ = segment.AppendTerms(terms, nil, e)
			id := event.IDOf(e)
			if j == 0 || id.Compare(s.low) < 0 {
				s.low = id
			}
			if id.Compare(s.high) > 0 {
				s.high = id
			}
		}
		s.terms = terms
		for _, term := range terms {
			s.hashes[termindex.Hash(term)] = true
		}
		tiles = append(tiles, []any{log, s.Bundle, day, hashes})
		rows = append(rows, []any{day, log, s.Bundle, [16]byte(s.low), [16]byte(s.high), []byte(segment.BuildFilter(terms, records)), segment.Encode(nil, framed)})
		f.segments = append(f.segments, s)
		f.sizes[log]++
	}
	if _, err := f.db.Exec(ctx, `INSERT INTO audittrail.heads (log_id, owner, events_topic_id, records_topic_id, partitions, size)
		VALUES ($1, gen_random_uuid(), decode(repeat('01', 16), 'hex'), decode(repeat('02', 16), 'hex'), 100, $2)
		ON CONFLICT (log_id) DO UPDATE SET size = EXCLUDED.size`, log, f.sizes[log]*256); err != nil {
		t.Fatal(err)
	}
	if _, err := f.db.CopyFrom(ctx, pgx.Identifier{"audittrail", "tiles0"}, []string{"log_id", "bundle", "day", "hashes"}, pgx.CopyFromRows(tiles)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.db.CopyFrom(ctx, pgx.Identifier{"audittrail", "segments"}, []string{"day", "log_id", "bundle", "min_id", "max_id", "filter", "data"},
		pgx.CopyFromRows(rows)); err != nil {
		t.Fatal(err)
	}
}

// naive is what a lookup must find among what the runs cover: segments with a term of each clause, as far as runs tell terms apart.
func (f *filled) naive(covered map[int16]int64, clauses [][]uint64) (found []termindex.Segment) {
	for _, s := range f.segments {
		all := s.Bundle < covered[s.Log]
		for _, terms := range clauses {
			one := false
			for _, term := range terms {
				one = one || s.hashes[termindex.Hash(term)]
			}
			all = all && one
		}
		if all {
			found = append(found, s.Segment)
		}
	}
	return found
}

// anyTerm is one that some segment has.
func (f *filled) anyTerm() uint64 {
	if f.rng.IntN(10) == 0 {
		return f.rng.Uint64()
	}
	terms := f.segments[f.rng.IntN(len(f.segments))].terms
	return terms[f.rng.IntN(len(terms))]
}
