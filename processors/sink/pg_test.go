package sink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/processors/sink/schema"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

func anyRange(string, int32) (group.LogRange, error) {
	return group.LogRange{Start: 0, End: 1 << 40}, nil
}

var logins atomic.Int64

// writerDSN is a login of its own in a migrated database: a writer and nothing else.
func writerDSN(t testing.TB, super string) string {
	t.Helper()
	ctx := context.Background()
	if err := schema.Migrate(ctx, super, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	cfg, err := pgx.ParseConfig(super)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	user := fmt.Sprintf("sink_%d", logins.Add(1))
	if _, err := conn.Exec(ctx, "CREATE ROLE "+user+" LOGIN PASSWORD 'test' IN ROLE "+schema.Writer); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("postgres://%s:test@%s:%d/%s?sslmode=disable", user, cfg.Host, cfg.Port, cfg.Database)
}

func testStore(t testing.TB) *store {
	t.Helper()
	s, err := openStore(writerDSN(t, embeddedtest.Postgres(t)), time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.db.Close)
	return s
}

// readLog reads a log back from segments and tail, and checks what belongs to it: tiles, filters, frontier, rows of events.
func readLog(t testing.TB, s *store, log int16) (entries []segment.Entry) {
	t.Helper()
	ctx := context.Background()
	rows, err := s.db.Query(ctx, `
		SELECT s.bundle * 256, 256, s.data, s.filter, t.hashes, s.min_id, s.max_id FROM audittrail.segments s JOIN audittrail.tiles0 t USING (log_id, bundle, day) WHERE log_id = $1
		UNION ALL SELECT first_index, n, data, NULL, NULL, NULL, NULL FROM audittrail.tail WHERE log_id = $1 ORDER BY 1`, log)
	if err != nil {
		t.Fatal(err)
	}
	var first int64
	var n int
	var data, filter, hashes []byte
	var minID, maxID *[16]byte
	var leaves [][32]byte
	if _, err := pgx.ForEachRow(rows, []any{&first, &n, &data, &filter, &hashes, &minID, &maxID}, func() error {
		part, err := segment.Decode(bytes.Clone(data))
		if err != nil {
			return err
		}
		if first != int64(len(entries)) || n != len(part) {
			return fmt.Errorf("row %d of %d entries (%d decoded) comes at %d", first, n, len(part), len(entries))
		}
		for i, e := range part {
			leaf := segment.LeafHash(e)
			leaves = append(leaves, leaf)
			if hashes != nil && !bytes.Equal(hashes[32*i:32*i+32], leaf[:]) {
				return fmt.Errorf("tile of entry %d differs", int(first)+i)
			}
			checkEntry(t, int(first)+i, e, filter, minID, maxID)
		}
		entries = append(entries, part...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	checkRows(t, s, log, entries)
	checkRollups(t, s, log, len(entries)/segment.BundleSize*segment.BundleSize)
	var size int64
	var frontier []byte
	if err := s.db.QueryRow(ctx, "SELECT size, frontier FROM audittrail.heads WHERE log_id = $1", log).Scan(&size, &frontier); err != nil {
		t.Fatal(err)
	}
	if size != int64(len(entries)) {
		t.Errorf("log %d has %d entries, its head says %d", log, len(entries), size)
	}
	if !bytes.Equal(frontier, naiveFrontier(leaves)) {
		t.Errorf("frontier of log %d differs", log)
	}
	return entries
}

func checkEntry(t testing.TB, index int, e segment.Entry, filter []byte, minID, maxID *[16]byte) {
	t.Helper()
	if e.Kind != segment.KindRecord || minID == nil {
		return
	}
	var ev audittrailv1.Event
	if err := ev.UnmarshalVT(e.Payload); err != nil {
		t.Fatal(err)
	}
	id := event.IDOf(&ev)
	if id.Compare(*minID) < 0 || id.Compare(*maxID) > 0 {
		t.Errorf("entry %d: id outside of the segment's range", index)
	}
	terms, _ := segment.AppendTerms(nil, nil, &ev)
	for _, term := range terms {
		if !segment.Filter(filter).MayContain(term) {
			t.Errorf("entry %d: the filter misses a term", index)
		}
	}
}

// checkRows holds the rows of events against the log: one for each record, and no other.
func checkRows(t testing.TB, s *store, log int16, entries []segment.Entry) {
	t.Helper()
	rows, err := s.db.Query(context.Background(), `SELECT log_index, fingerprint, path, name, outcome, id, e.day = coalesce(x.day, h.open_day) FROM audittrail.events e
		JOIN audittrail.sources USING (source_id) JOIN audittrail.actions USING (action_id) JOIN audittrail.heads h USING (log_id)
		LEFT JOIN audittrail.tiles0 x ON x.log_id = e.log_id AND x.bundle = e.log_index / 256 WHERE e.log_id = $1`, log)
	if err != nil {
		t.Fatal(err)
	}
	var index, fingerprint int64
	var source, action string
	var outcome int32
	var id [16]byte
	var dayFits bool
	n := 0
	if _, err := pgx.ForEachRow(rows, []any{&index, &fingerprint, &source, &action, &outcome, &id, &dayFits}, func() error {
		n++
		if index >= int64(len(entries)) || entries[index].Kind != segment.KindRecord {
			return fmt.Errorf("row of entry %d, which is no record", index)
		}
		var e audittrailv1.Event
		if err := e.UnmarshalVT(entries[index].Payload); err != nil {
			return err
		}
		short, _ := event.Fingerprint(&e)
		if event.IDOf(&e) != id || int64(short) != fingerprint || e.Source != source || e.Action != action || int32(e.Outcome) != outcome || !dayFits {
			return fmt.Errorf("row of entry %d differs from its record: %s %s %d (day fits: %v)", index, source, action, outcome, dayFits)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	records := 0
	for _, e := range entries {
		if e.Kind == segment.KindRecord {
			records++
		}
	}
	if n != records {
		t.Errorf("log %d has %d records and %d rows", log, records, n)
	}
}

func verifyLog(t testing.TB, s *store, log int16, want []segment.Entry) {
	t.Helper()
	have := readLog(t, s, log)
	if len(have) != len(want) {
		t.Errorf("log %d has %d entries, want %d", log, len(have), len(want))
		return
	}
	for i := range have {
		if have[i].Kind != want[i].Kind || !bytes.Equal(have[i].Payload, want[i].Payload) {
			t.Errorf("log %d: entry %d is %v, want %v, or another", log, i, have[i].Kind, want[i].Kind)
		}
	}
}

// naiveFrontier is RFC 6962's tree hash (section 2.1) of each full subtree, by recursion.
func naiveFrontier(leaves [][32]byte) (frontier []byte) {
	for len(leaves) > 0 {
		n := 1
		for 2*n <= len(leaves) {
			n *= 2
		}
		root := treeHash(leaves[:n])
		frontier = append(frontier, root[:]...)
		leaves = leaves[n:]
	}
	return frontier
}

func treeHash(leaves [][32]byte) [32]byte {
	if len(leaves) == 1 {
		return leaves[0]
	}
	l, r := treeHash(leaves[:len(leaves)/2]), treeHash(leaves[len(leaves)/2:])
	return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
}
