package enricher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/processors/enricher/table"
	"github.com/maxviazov/audittrail/proto/stream"
)

var testTopics = topicIDs{events: [16]byte{1}, table: [16]byte{2}}

func testStores(dir string) *stores {
	m, _ := newMetrics(nil)
	return newStores(Config{SnapshotDir: dir}.withDefaults(), zerolog.Nop(), m)
}

// tableValue is a value of the table, with n accepted ids that begin with number first.
func tableValue(topic [16]byte, offset, atMs int64, first, n uint64) []byte {
	s := &table.State{TopicId: topic[:], LastOffset: offset, LastIngestedAtMs: atMs, Events: offset}
	for i := range n {
		s.Accepted = table.AppendAccepted(s.Accepted, table.Accepted{ID: testID(first + i), Index: uint32(i), Fingerprint: first + i, Enrichment: [16]byte{1}})
	}
	return stream.EncodeState(s)
}

func fill(t testing.TB, s *store, values int) {
	t.Helper()
	for i := range int64(values) {
		key := fmt.Sprintf("acme/s%d", i%10)
		if err := s.recover(i, key, tableValue(s.ids.events, i, 1000+i, uint64(i)*5, 5)); err != nil {
			t.Fatal(err)
		}
	}
}

func content(s *store) string {
	all := make([]entry, s.window.len())
	s.window.copyRange(0, all)
	return fmt.Sprintf("offset %d, states %v, window %v now %d", s.offset, s.states, all, s.window.now)
}

func TestSnapshotRoundTrip(t *testing.T) {
	dir := t.TempDir()
	stores := testStores(dir)
	s := stores.prepare(3, testTopics, group.LogRange{End: 0})
	fill(t, s, 3000) // more than one chunk of ids
	if _, err := s.save(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	again := testStores(dir).prepare(3, testTopics, group.LogRange{End: 3000})
	if content(again) != content(s) || again.ids != testTopics {
		t.Errorf("loaded %.200s\nsaved %.200s", content(again), content(s))
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 1 {
		t.Errorf("files: %v", files)
	}
}

// TestSnapshotIsOnlyACache: whatever is wrong with a snapshot, it is ignored and nothing of it stays.
func TestSnapshotIsOnlyACache(t *testing.T) {
	dir := t.TempDir()
	s := testStores(dir).prepare(0, testTopics, group.LogRange{})
	fill(t, s, 100)
	if _, err := s.save(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(snapshotPath(dir, 0))
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	log := group.LogRange{End: 100}
	for name, c := range map[string]struct {
		damage func([]byte) []byte
		ids    topicIDs
		log    group.LogRange
	}{
		"empty":                         {func(b []byte) []byte { return nil }, testTopics, log},
		"cut off":                       {func(b []byte) []byte { return b[:len(b)/2] }, testTopics, log},
		"without checksum":              {func(b []byte) []byte { return b[:len(b)-4] }, testTopics, log},
		"not a snapshot":                {flip(0), testTopics, log},
		"another version":               {flip(11), testTopics, log},
		"another partition":             {flip(15), testTopics, log},
		"offset changed":                {flip(55), testTopics, log},
		"state changed":                 {flip(120), testTopics, log},
		"entry changed":                 {flip(len(good) - 40), testTopics, log},
		"checksum changed":              {flip(len(good) - 1), testTopics, log},
		"R18: events recreated":         {nil, topicIDs{[16]byte{7}, testTopics.table}, log},
		"R18: table recreated":          {nil, topicIDs{testTopics.events, [16]byte{7}}, log},
		"R18: the changelog is shorter": {nil, testTopics, group.LogRange{End: 99}},
	} {
		t.Run(name, func(t *testing.T) {
			data := append([]byte(nil), good...)
			if c.damage != nil {
				data = c.damage(data)
			}
			if err := os.WriteFile(snapshotPath(dir, 0), data, 0o600); err != nil {
				t.Fatal(err)
			}
			s := testStores(dir).prepare(0, c.ids, c.log)
			if s.offset != noOffset || len(s.states) != 0 || s.window.len() != 0 || s.ids != c.ids {
				t.Errorf("%.200s", content(s))
			}
		})
	}
}

// TestPrepareThrowsAway what is in memory when the topics are others or the changelog went backwards (R18).
func TestPrepareThrowsAway(t *testing.T) {
	for name, c := range map[string]struct {
		ids  topicIDs
		log  group.LogRange
		want int64
	}{
		"still fits":        {testTopics, group.LogRange{End: 10}, 9},
		"events recreated":  {topicIDs{[16]byte{7}, testTopics.table}, group.LogRange{End: 10}, noOffset},
		"table rolled back": {testTopics, group.LogRange{End: 9}, noOffset},
	} {
		stores := testStores("")
		fill(t, stores.prepare(0, testTopics, group.LogRange{}), 10)
		if s := stores.prepare(0, c.ids, c.log); s.offset != c.want || (len(s.states) > 0) != (c.want != noOffset) {
			t.Errorf("%s: offset %d with %d states, want %d", name, s.offset, len(s.states), c.want)
		}
	}
}

// TestSnapshotWhileProcessing: the offset of a snapshot is never ahead of its content (run with -race).
func TestSnapshotWhileProcessing(t *testing.T) {
	dir := t.TempDir()
	s := testStores(dir).prepare(0, testTopics, group.LogRange{})
	_ = s.Open()
	_ = s.MarkRecovered()
	stop, done := make(chan struct{}), make(chan int64)
	go func() {
		i := int64(0)
		defer func() { done <- i }()
		for i < 20_000 { // the window holds them all
			select {
			case <-stop:
				return
			default:
			}
			value := tableValue(testTopics.events, i, 1000+i, uint64(i)*5, 5)
			state, _ := stream.DecodeState(value)
			s.accept(i, 1000+i, state.Accepted)
			if err := s.Set("acme/pay", value); err != nil {
				t.Error(err)
			}
			_ = s.SetOffset(i) // acknowledged
			i++
		}
	}()
	for range 20 {
		if _, err := s.save(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		got := testStores(dir).prepare(0, testTopics, group.LogRange{End: 1 << 60})
		if got.offset < 1 {
			continue
		}
		if h := got.states["acme/pay"]; h.version.LastOffset < got.offset {
			t.Errorf("state of message %d at offset %d", h.version.LastOffset, got.offset)
		}
		for i := uint64(0); i < uint64(got.offset+1)*5; i++ {
			if got.window.find(testID(i)) == nil {
				t.Fatalf("id %d of message %d is missing at offset %d", i, i/5, got.offset)
			}
		}
	}
	close(stop)
	<-done
}

// TestOffsetIsAPrefix (R7): an acknowledgement that leaves somebody else's write out does not move the offset, so that the next
// recovery reads that write.
func TestOffsetIsAPrefix(t *testing.T) {
	s := testStores("").prepare(0, testTopics, group.LogRange{})
	at := func(want int64, what string) {
		t.Helper()
		if got, _ := s.GetOffset(-3); got != want {
			t.Errorf("%s: offset %d, want %d", what, got, want)
		}
	}
	at(-3, "empty")
	_ = s.Open()
	_ = s.SetOffset(50) // a late acknowledgement of the session before
	at(-3, "in recovery")
	fill(t, s, 3)
	_ = s.MarkRecovered()
	at(2, "recovered")
	for _, o := range []int64{3, 4, 2, 6, 7} { // 5 is a zombie's
		_ = s.SetOffset(o)
	}
	at(4, "after a zombie's write")
	_ = s.Close()
	_ = s.Open()
	if err := s.recover(5, "acme/s1", tableValue(testTopics.events, 0, 1000, 900, 1)); err != nil {
		t.Fatal(err)
	}
	_ = s.recover(7, "acme/s2", nil)
	_ = s.MarkRecovered()
	if stale := s.staleStates(); len(stale) != 2 {
		t.Errorf("stale: %v", stale)
	}
	if s.due() {
		t.Error("a snapshot would hide that states must be written again")
	}
	s.rewritten("acme/s1", 8)
	s.rewritten("acme/s2", 9)
	at(9, "rewritten")
	if !s.due() {
		t.Error("nothing to save")
	}

	empty := testStores("").prepare(0, testTopics, group.LogRange{})
	_ = empty.Open()
	_ = empty.MarkRecovered()
	_ = empty.SetOffset(1) // goka is silent about offset 0
	if got, _ := empty.GetOffset(-3); got != 1 {
		t.Errorf("first acknowledgement: offset %d", got)
	}
}

// TestBadChangelogValues: garbage is left out and mended, a newer version stops the program.
func TestBadChangelogValues(t *testing.T) {
	stores := testStores("")
	s := stores.prepare(0, testTopics, group.LogRange{})
	_ = s.Open()
	fill(t, s, 10)
	before := content(s)
	if err := s.recover(10, "acme/s1", []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	if got := strings.Replace(content(s), "offset 10", "offset 9", 1); got != before {
		t.Error("garbage changed the content")
	}
	if _, stale := s.staleStates()["acme/s1"]; !stale {
		t.Error("garbage stays the last value of its source")
	}
	newer := tableValue(testTopics.events, 10, 1000, 0, 0)
	newer[4]++
	rules := stream.EncodeState(&table.State{TopicId: testTopics.events[:], RuleVersion: table.RuleVersion + 1})
	for what, value := range map[string][]byte{"envelope": newer, "rules": rules} {
		if err := s.recover(11, "acme/s1", value); !errors.Is(err, stream.ErrVersion) {
			t.Errorf("newer %s: %v", what, err)
		}
	}
	var refusal group.Refusal
	if err := stores.refused(); !errors.As(err, &refusal) || !errors.Is(err, stream.ErrVersion) {
		t.Errorf("refused: %v", err)
	}
}

// TestForget: what went to another replica is saved, then freed, and loaded again when it comes back.
func TestForget(t *testing.T) {
	stores := testStores(t.TempDir())
	s := stores.prepare(0, testTopics, group.LogRange{})
	_ = s.Open()
	fill(t, s, 10)
	_ = s.MarkRecovered()
	stores.tend(context.Background(), s)
	if s.life.saved != s.life.changes {
		t.Error("no first snapshot")
	}
	_ = s.Close()
	s.mu.Lock()
	s.life.closed = time.Now().Add(-idleAfter)
	s.mu.Unlock()
	stores.tend(context.Background(), s)
	if s.window.len() != 0 || len(s.states) != 0 {
		t.Error("still in memory")
	}
	if s = stores.prepare(0, testTopics, group.LogRange{End: 10}); s.window.len() != 50 || s.offset != 9 {
		t.Errorf("loaded again: %d ids, offset %d", s.window.len(), s.offset)
	}
	stores.tend(context.Background(), s) // before goka opens it
	if s.window.len() != 50 || !s.life.loaded {
		t.Error("forgotten between being loaded and being opened")
	}
}

// TestOtherTopicsIDsAreIgnored is R18: audit-events was recreated and its table was not. A slot of the old topic must not be named as the
// first copy in the new one: the sink would believe it, and the event would be lost.
func TestOtherTopicsIDsAreIgnored(t *testing.T) {
	s := testStores("").prepare(0, testTopics, group.LogRange{End: 2})
	_ = s.Open()
	for i, topic := range [][16]byte{{9}, testTopics.events} {
		if err := s.recover(int64(i), "acme/s", tableValue(topic, 5, 1000, uint64(10*i), 2)); err != nil {
			t.Fatal(err)
		}
	}
	if s.window.find(testID(0)) != nil || s.window.find(testID(10)) == nil || s.window.len() != 2 {
		t.Error(content(s))
	}
}

func FuzzSnapshot(f *testing.F) {
	dir := f.TempDir()
	s := testStores(dir).prepare(0, testTopics, group.LogRange{})
	fill(f, s, 3)
	if _, err := s.save(context.Background(), dir); err != nil {
		f.Fatal(err)
	}
	good, _ := os.ReadFile(snapshotPath(dir, 0))
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		s := testStores("").prepare(0, testTopics, group.LogRange{})
		err := s.read(newSnapshotReader(strings.NewReader(string(data))))
		if err == nil && string(data) != string(good) && s.window.len() > 0 && s.offset < 0 {
			t.Errorf("accepted content without an offset: %s", content(s))
		}
	})
}
