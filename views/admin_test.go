package views_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/stream"
	"github.com/maxviazov/audittrail/views"
	"github.com/maxviazov/audittrail/views/viewstest"
)

func newPositions(t *testing.T, settings stream.Settings) *views.KafkaPositions {
	p := views.NewKafkaPositions(settings)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// TestFirstReadableSkipsWhatNoConsumerGets writes what only transactions can: markers and aborted records are offsets, and no messages.
func TestFirstReadableSkipsWhatNoConsumerGets(t *testing.T) {
	settings := stream.Settings{Brokers: embeddedtest.Kafka(t)}
	applyTopics(t, settings)
	positions := newPositions(t, settings)
	client, err := kgo.NewClient(kgo.SeedBrokers(settings.Brokers...), kgo.TransactionalID("tx"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	end := func() int64 {
		t.Helper()
		ranges, err := positions.LogRanges(t.Context(), stream.Events)
		if err != nil {
			t.Fatal(err)
		}
		return ranges[1].End
	}
	transaction := func(n int, commit kgo.TransactionEndTry) {
		t.Helper()
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for range n {
			if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: stream.Events, Partition: 1, Value: []byte("v")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := client.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	first := func(from int64) *views.Readable {
		t.Helper()
		r, err := positions.FirstReadable(t.Context(), stream.Events, 1, from, end())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	transaction(2, kgo.TryCommit) // 0 1, marker 2
	if r := first(0); r == nil || r.Offset != 0 || time.Since(r.At) > time.Minute || time.Since(r.At) < 0 {
		t.Errorf("a message: %+v", r)
	}
	if r := first(1); r == nil || r.Offset != 1 {
		t.Errorf("a message: %+v", r)
	}
	if r := first(2); end() != 3 || r != nil {
		t.Errorf("a marker at the end is readable: %+v", r)
	}
	transaction(3, kgo.TryAbort) // 3 4 5, marker 6
	if r := first(2); end() != 7 || r != nil {
		t.Errorf("aborted records are readable: %+v", r)
	}
	transaction(1, kgo.TryCommit) // 7, marker 8
	if r := first(2); r == nil || r.Offset != 7 {
		t.Errorf("behind aborted records: %+v", r)
	}
	if r, err := positions.FirstReadable(t.Context(), stream.Events, 1, 2, 7); err != nil || r != nil {
		t.Errorf("beyond the end: %+v, %v", r, err)
	}
	if r := first(8); end() != 9 || r != nil {
		t.Errorf("the last marker is readable: %+v", r)
	}
	open := func() map[int32]views.OpenTransaction {
		t.Helper()
		open, err := positions.OpenTransactions(t.Context(), stream.Events)
		if err != nil {
			t.Fatal(err)
		}
		return open
	}
	if o := open(); len(o) != 0 {
		t.Errorf("markers hold up: %+v", o)
	}
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // 9 10
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: stream.Events, Partition: 1, Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if o := open(); len(o) != 1 || o[1].Offset != 9 || o[1].End != 11 || time.Since(o[1].Since) > time.Minute || time.Since(o[1].Since) < 0 {
		t.Errorf("an open transaction: %+v", o)
	}
	if err := client.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	if o := open(); len(o) != 0 {
		t.Errorf("an ended transaction holds up: %+v", o)
	}
}

func TestStatusFromKafkaAndStore(t *testing.T) {
	settings := stream.Settings{Brokers: embeddedtest.Kafka(t)}
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{positions: newPositions(t, settings)})
	_, err := g.GetStatus(t.Context(), &audittrailv1.GetStatusRequest{})
	wantCode(t, err, codes.Unavailable) // no topics
	applyTopics(t, settings)
	status := func() *audittrailv1.GetStatusResponse {
		t.Helper()
		got, err := g.GetStatus(t.Context(), &audittrailv1.GetStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := status(); !got.GetCaughtUp() || len(got.GetPartitions()) != 4 || len(got.GetAlerts()) != 0 {
		t.Errorf("empty: %v", got)
	}
	publisher := newPublisher(t, settings)
	for range 3 {
		if err := publisher.Publish(t.Context(), stream.Events, []byte("acme"), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	p := stream.Partition("acme", 4)
	got := status()
	if row := got.GetPartitions()[p]; got.GetCaughtUp() || row.GetEventsEnd() != 3 || row.GetEnricherLag() != 3 || row.GetEnricherPosition() != -1 ||
		row.GetLag().AsDuration() <= 0 {
		t.Errorf("behind: %v", got)
	}
	gen := viewstest.NewGenerator(1, time.Now(), time.Hour)
	store.Append(t, int16(p), gen.Events(3)...)
	store.Exec(t, `UPDATE audittrail.heads SET next_offset = 3, drops = 2, duplicates = 1, dead_letters = 4`)
	if got := status(); !got.GetCaughtUp() || got.GetStoredCount() != 3 || got.GetDuplicateCount() != 3 || got.GetDeadLetterCount() != 4 ||
		got.GetPartitions()[p].GetLogSize() != 3 {
		t.Errorf("stored: %v", got)
	}
}

// addDeadLetter stores a dead letter and returns its number.
func addDeadLetter(t *testing.T, store *viewstest.Store, n int, key, original []byte, size int) int64 {
	t.Helper()
	sum := sha256.Sum256(original)
	var id int64
	if err := store.Pool.QueryRow(t.Context(), `INSERT INTO audittrail.deadletters (log_id, log_index, input_offset, input_index, whole_message, reason,
		detail, source, key, original, original_size, original_sha256) VALUES (1, $1, $1, 2, false, 'INVALID_EVENT', 'actor.id: too long', $2, $3, $4, $5, $6)
		RETURNING deadletter_id`, n, strings.ToValidUTF8(string(key), "?"), key, original, size, sum[:]).Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestListDeadLetters(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{})
	const n = 120
	large := bytes.Repeat([]byte{0xff}, 64<<10)
	var ids []int64
	for i := range n {
		original := large // 120 of them are 7.5 MiB
		if i%2 == 0 {
			original = []byte{0, byte(i)}
		}
		ids = append(ids, addDeadLetter(t, store, i, []byte("acme"), original, len(original)))
	}
	store.Exec(t, `SELECT audittrail.mark_redriven($1)`, ids[:20])
	slices.Reverse(ids)
	for _, c := range []struct {
		pending bool
		size    int32
		want    []int64
	}{{false, 7, ids}, {false, 1000, ids}, {true, 50, ids[:n-20]}, {true, 1, ids[:n-20]}, {true, 100, ids[:n-20]}} {
		req := &audittrailv1.ListDeadLettersRequest{PageSize: c.size, PendingOnly: c.pending}
		var got []int64
		for {
			resp, err := g.ListDeadLetters(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if resp.SizeVT() > 3<<20+100 || len(resp.GetDeadLetters()) > int(c.size) {
				t.Errorf("a page of %d bytes, %d rows", resp.SizeVT(), len(resp.GetDeadLetters()))
			}
			for _, d := range resp.GetDeadLetters() {
				got = append(got, d.GetId())
			}
			if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("pending %v, pages of %d: got %v, want %v", c.pending, c.size, got, c.want)
		}
	}
	resp, err := g.ListDeadLetters(t.Context(), &audittrailv1.ListDeadLettersRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	d := resp.GetDeadLetters()[0]
	sum := sha256.Sum256(large)
	if d.GetSource() != "acme" || d.GetReason() != "INVALID_EVENT" || d.GetDetail() != "actor.id: too long" || d.GetPartition() != 1 ||
		d.GetOffset() != n-1 || d.GetIndex() != 2 || !bytes.Equal(d.GetOriginal(), large) || d.GetOriginalSize() != 64<<10 ||
		!bytes.Equal(d.GetOriginalSha256(), sum[:]) || time.Since(d.GetStoredAt().AsTime()) > time.Minute || d.GetRedrivenAt() != nil {
		t.Errorf("got %v", d)
	}
	// A token of the one list is none of the other.
	_, err = g.ListDeadLetters(t.Context(), &audittrailv1.ListDeadLettersRequest{PageToken: resp.GetNextPageToken(), PendingOnly: true})
	wantField(t, err, "page_token")
}

func TestRedriveDeadLetters(t *testing.T) {
	store := viewstest.NewStore(t)
	publisher := &memoryPublisher{}
	g := newGateway(t, store.DSN, options{publisher: publisher})
	key := []byte("ac\xffme") // as it came, not as text shows it
	whole := addDeadLetter(t, store, 0, key, []byte{1, 2, 3}, 3)
	cut := addDeadLetter(t, store, 1, []byte("acme"), []byte("begin"), 100_000)
	empty := addDeadLetter(t, store, 2, []byte("acme"), []byte{}, 0)
	other := addDeadLetter(t, store, 3, []byte("acme"), []byte("x"), 1)
	resp, err := g.RedriveDeadLetters(t.Context(), &audittrailv1.RedriveDeadLettersRequest{Ids: []int64{cut, whole, 999, whole, empty}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []published{{stream.Events, string(key), "\x01\x02\x03"}}; resp.GetRedrivenCount() != 1 || !slices.Equal(publisher.messages, want) {
		t.Errorf("%v, published %v", resp, publisher.messages)
	}
	reasons := map[int64]string{}
	for _, f := range resp.GetFailures() {
		reasons[f.GetId()] = f.GetReason()
	}
	if len(reasons) != 3 || !strings.Contains(reasons[cut], "only the first 5 of 100000 bytes") || !strings.Contains(reasons[999], "no such") ||
		!strings.Contains(reasons[empty], "no content") {
		t.Errorf("failures %v", reasons)
	}
	pending := func() (ids []int64) {
		list, err := g.ListDeadLetters(t.Context(), &audittrailv1.ListDeadLettersRequest{PendingOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list.GetDeadLetters() {
			ids = append(ids, d.GetId())
		}
		return ids
	}
	if got := pending(); !slices.Equal(got, []int64{other, empty, cut}) {
		t.Errorf("pending %v", got)
	}
	// Kafka goes away in the middle: what was sent is marked, the rest is not.
	publisher.onSend = func(published) { publisher.err = errors.New("away") }
	_, err = g.RedriveDeadLetters(t.Context(), &audittrailv1.RedriveDeadLettersRequest{Ids: []int64{whole, other}})
	wantCode(t, err, codes.Unavailable)
	if got := pending(); !slices.Equal(got, []int64{other, empty, cut}) {
		t.Errorf("pending %v", got)
	}
	list, err := g.ListDeadLetters(t.Context(), &audittrailv1.ListDeadLettersRequest{})
	if err != nil || list.GetDeadLetters()[3].GetRedrivenAt() == nil {
		t.Errorf("%v, %v", list, err)
	}
}

func TestListGaps(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{})
	for i := range 25 {
		store.Exec(t, `INSERT INTO audittrail.gaps (log_id, log_index, events_topic_id, from_offset, from_index, end_offset, end_index, reason, filled_at)
			VALUES (2, $1, '', $1, 3, $2, 4, 'EXPIRED_INPUT', CASE WHEN $3 THEN now() END)`, int64(i), int64(i+1), i%5 == 0)
	}
	for _, open := range []bool{false, true} {
		for _, size := range []int32{4, 25, 1000} {
			req := &audittrailv1.ListGapsRequest{PageSize: size, OpenOnly: open}
			var got []int64
			for {
				resp, err := g.ListGaps(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				for _, gap := range resp.GetGaps() {
					got = append(got, gap.GetFromOffset())
					filled := gap.GetFromOffset()%5 == 0
					if gap.GetPartition() != 2 || gap.GetFromIndex() != 3 || gap.GetEndOffset() != gap.GetFromOffset()+1 || gap.GetEndIndex() != 4 ||
						gap.GetReason() != "EXPIRED_INPUT" || gap.GetRecordedAt() == nil || (gap.GetFilledAt() != nil) != filled {
						t.Errorf("got %v", gap)
					}
				}
				if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
					break
				}
			}
			var want []int64
			for i := int64(24); i >= 0; i-- {
				if !open || i%5 != 0 {
					want = append(want, i)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("open %v, pages of %d: got %v", open, size, got)
			}
		}
	}
}

// TestQuietSourceInABusyStore holds bounded work: each page looks at no more rows than it may, and the walk ends.
func TestQuietSourceInABusyStore(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{cfg: views.Config{ScanRows: 1000}})
	gen := viewstest.NewGenerator(9, time.Now(), 3*24*time.Hour)
	events := gen.Events(3000)
	quiet := gen.Event()
	quiet.Source, quiet.OccurredAt = "quiet", timestamppb.New(time.Now().Add(-100*24*time.Hour))
	quiet.Actor = &audittrailv1.Actor{Id: "hermit"}
	store.Append(t, 0, events[:1500]...)
	store.Append(t, 0, quiet)
	store.Append(t, 0, events[1500:]...)
	for _, c := range []struct {
		filter string
		pages  int // at least
	}{{`source = quiet`, 1}, {`actor.id = hermit`, 1}, {`NOT actor.id != hermit`, 1},
		{`hermit`, 3}, // nothing narrows free text: groups of 4 bundles, 1,024 records, until a page has looked at 1,000
		{`actor.id:"*hermit"`, 3}} {
		got, pages, err := g.walk(t.Context(), c.filter, 10, nil)
		if err != nil || len(got) != 1 || got[0].GetSource() != "quiet" {
			t.Fatalf("%s: %v, %v", c.filter, got, err)
		}
		if pages < c.pages || pages > 6 {
			t.Errorf("%s: %d pages, want %d to 6", c.filter, pages, c.pages)
		}
	}
	// Its segment alone is read: Bloom filters rule the others out.
	fresh := newGateway(t, store.DSN, options{})
	if got, _, err := fresh.walk(t.Context(), `actor.id = hermit`, 10, nil); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if read := fresh.counter(t, "audittrail_gateway_segments_read_total"); read > 3 { // its own, the tail, and one false hit
		t.Errorf("%v segments read", read)
	}
	if got, _, err := fresh.walk(t.Context(), `source = "never-seen"`, 10, nil); err != nil || len(got) != 0 {
		t.Error(got, err)
	}
}

func TestPagesEndAtTheirBytes(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{})
	gen := viewstest.NewGenerator(10, time.Now(), time.Hour)
	events := gen.Events(200)
	for _, e := range events {
		e.Details = fmt.Sprintf(`{"x":%q}`, strings.Repeat("y", 30<<10))
	}
	store.Append(t, 0, events...)
	got, pages, err := g.walk(t.Context(), "", 1000, nil)
	if err != nil || pages != 2 || !slices.Equal(idsOf(got), texts(naive(t, "", events))) {
		t.Errorf("%d events on %d pages, %v", len(got), pages, err)
	}
	tail := g.tail(t, t.Context(), "", "")
	if _, err := tail.Recv(); err != nil {
		t.Fatal(err)
	}
	more := gen.Events(150)
	for _, e := range more {
		e.Details = events[0].Details
	}
	store.Append(t, 0, more...)
	for n := 0; n < len(more); {
		resp, err := tail.Recv()
		if err != nil || resp.SizeVT() > 3<<20+200 {
			t.Fatalf("%d bytes, %v", resp.SizeVT(), err)
		}
		n += len(resp.GetEvents())
	}
}

func TestCanceledCallsSaySo(t *testing.T) {
	store := viewstest.NewStore(t)
	g := newGateway(t, store.DSN, options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := g.server.ListEvents(ctx, &audittrailv1.ListEventsRequest{})
	wantCode(t, err, codes.Canceled)
}
