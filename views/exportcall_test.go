package views_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/views"
	"github.com/maxviazov/audittrail/views/viewstest"
)

type exportStream = grpc.ServerStreamingClient[audittrailv1.ExportEventsResponse]

func (g *gateway) export(t testing.TB, ctx context.Context, filter, token string) exportStream {
	t.Helper()
	stream, err := g.ExportEvents(ctx, &audittrailv1.ExportEventsRequest{Filter: filter, ResumeToken: token})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// TestAnExportIsTheWholeListHoweverOftenItBreaks cuts streams off after each few responses, while more is stored: resumed, they are what was
// stored when the first began, each event once, in the order of a list.
func TestAnExportIsTheWholeListHoweverOftenItBreaks(t *testing.T) {
	store := viewstest.NewStore(t)
	gen := viewstest.NewGenerator(9, time.Now(), 30*24*time.Hour)
	var events []*audittrailv1.Event
	add := func(n int) {
		more := gen.Events(n)
		store.Append(t, int16(gen.IntN(3)), more...)
		events = append(events, more...)
	}
	for range 10 {
		add(250)
	}
	g := newGateway(t, store.DSN, options{cfg: views.Config{ScanRows: 1000}})
	for _, filter := range []string{"", `action:"user*"`, `attributes.b="nothing like it"`, `NOT source="acme"`} {
		want := texts(naive(t, filter, events))
		var got []string
		token, breaks, done := "", 0, false
		for !done {
			ctx, cancel := context.WithCancel(t.Context())
			stream := g.export(t, ctx, filter, token)
			for range 1 + gen.IntN(2) {
				resp, err := stream.Recv()
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range resp.GetEvents() {
					got = append(got, e.GetId())
				}
				if resp.GetExportedCount() != int64(len(got)) {
					t.Errorf("says %d events, sent %d", resp.GetExportedCount(), len(got))
				}
				token = resp.GetResumeToken()
				if done = resp.GetDone(); done {
					if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
						t.Errorf("after the last response: %v", err)
					}
					break
				}
				if token == "" {
					t.Fatal("a response before the last has no token")
				}
			}
			cancel()
			breaks++
			if breaks < 4 {
				add(30)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %d events exported, want %d", filter, len(got), len(want))
		}
		if filter == "" && breaks < 3 {
			t.Errorf("only %d streams", breaks)
		}
	}
}

func TestExportTokensAreOfOneExport(t *testing.T) {
	store, _ := storeOf(t, 1200)
	g := newGateway(t, store, options{})
	resp, err := g.export(t, t.Context(), "", "").Recv()
	if err != nil {
		t.Fatal(err)
	}
	list, err := g.ListEvents(t.Context(), &audittrailv1.ListEventsRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, req := range map[string]*audittrailv1.ExportEventsRequest{
		"another filter":   {Filter: "outcome=denied", ResumeToken: resp.GetResumeToken()},
		"a page token":     {ResumeToken: list.GetNextPageToken()},
		"a token cut off":  {ResumeToken: resp.GetResumeToken()[:40]},
		"not even a token": {ResumeToken: strings.Repeat("A", 100_000)},
	} {
		stream, err := g.ExportEvents(t.Context(), req)
		if err == nil {
			_, err = stream.Recv()
		}
		if err == nil {
			t.Errorf("%s is taken", name)
			continue
		}
		wantField(t, err, "resume_token")
	}
	_, err = g.export(t, t.Context(), "source=", "").Recv()
	wantField(t, err, "filter")
}

func TestTooManyExportsAreRefusedAndAbortedOnesMakeRoom(t *testing.T) {
	store, _ := storeOf(t, 2000)
	g := newGateway(t, store, options{cfg: views.Config{MaxExports: 2}})
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		if _, err := g.export(t, ctx, "", "").Recv(); err != nil { // and reads no more
			t.Fatal(err)
		}
	}
	held := func() error {
		_, err := g.export(t, t.Context(), "outcome=denied AND outcome=success", "").Recv()
		return err
	}
	// The first two may be done already if the transport took all of it: it does not take this much.
	if err := held(); err != nil {
		wantCode(t, err, codes.ResourceExhausted)
	} else {
		t.Log("both exports fitted into the transport")
	}
	cancel()
	eventually(t, "room for another", func() bool { return held() == nil })
}

// big is a store whose export does not fit into any buffer of the transport.
func big(t *testing.T, n int) (dsn string) {
	t.Helper()
	store := viewstest.NewStore(t)
	gen := viewstest.NewGenerator(uint64(n), time.Now(), time.Hour)
	for range n / 500 {
		events := gen.Events(500)
		for _, e := range events {
			e.Details = `{"text":"` + strings.Repeat("x", 4000) + `"}`
		}
		store.Append(t, 0, events...)
	}
	return store.DSN
}

// A reader that stops reading is cut off after ExportStall; until then, and for ever, it costs the memory of a few responses. Its place is free again.
func TestAReaderThatStallsIsCutOff(t *testing.T) {
	g := newGateway(t, big(t, 4000), options{cfg: views.Config{MaxExports: 1, ExportStall: time.Second}})
	stalled := g.export(t, t.Context(), "", "")
	first, err := stalled.Recv()
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, func() error { _, err := g.export(t, t.Context(), "", "").Recv(); return err }(), codes.ResourceExhausted)
	eventually(t, "its place is free", func() bool {
		_, err := g.export(t, t.Context(), "outcome=denied AND outcome=success", "").Recv()
		return err == nil
	})
	var end error
	for end == nil {
		_, end = stalled.Recv()
	}
	wantCode(t, end, codes.Aborted)
	resumed := g.export(t, t.Context(), "", first.GetResumeToken())
	n := len(first.GetEvents())
	for done := false; !done; {
		resp, err := resumed.Recv()
		if err != nil {
			t.Fatal(err)
		}
		n += len(resp.GetEvents())
		done = resp.GetDone()
	}
	if n != 4000 {
		t.Errorf("%d events in all", n)
	}
}

// An export takes the memory of a few responses, not of its result: 130 MiB of events, read slowly, while the heap is watched. What is
// read ahead (16 MiB of bundles, and what waits for its turn) comes and goes; the second half, 65 MiB, may not need more by as much as that.
func TestAnExportTakesConstantMemory(t *testing.T) {
	dsn := big(t, 32_000)
	g := newGateway(t, dsn, options{cfg: views.Config{BundleCacheBytes: 1 << 20}})
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	var half, greatest uint64 // in the first half, and in the second
	stream := g.export(t, t.Context(), "", "")
	n, bytes := 0, 0
	for done := false; !done; {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		n += len(resp.GetEvents())
		bytes += resp.SizeVT()
		done = resp.GetDone()
		if now := heap(); n <= 16_000 {
			half = max(half, now)
		} else {
			greatest = max(greatest, now)
		}
	}
	if n != 32_000 {
		t.Errorf("%d events", n)
	}
	used := int64(greatest) - int64(before)
	t.Logf("%d MiB of events took %d MiB of heap, both ends", bytes>>20, used>>20)
	if used > 80<<20 {
		t.Errorf("%d MiB of heap for %d MiB of events", used>>20, bytes>>20)
	}
	if greatest > half+32<<20 {
		t.Errorf("%d MiB of heap in the first half, %d in the second: it grows with the result", half>>20, greatest>>20)
	}
}
