package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// memory is an emitter whose every third call fails for now, and a gateway that finds what was acknowledged.
type memory struct {
	audittrailv1.EmitterServiceClient
	audittrailv1.QueryServiceClient
	mu     sync.Mutex
	calls  int
	stored map[string]*audittrailv1.Event
}

func (m *memory) BatchEmitEvents(ctx context.Context, r *audittrailv1.BatchEmitEventsRequest, _ ...grpc.CallOption) (*audittrailv1.BatchEmitEventsResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calls++; m.calls%3 == 0 {
		return nil, status.Error(codes.Unavailable, "an election")
	}
	if ctx.Err() != nil {
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	resp := &audittrailv1.BatchEmitEventsResponse{}
	for _, e := range r.Events {
		id := event.IDOf(e).String()
		m.stored[id] = proto.CloneOf(e)
		resp.Results = append(resp.Results, &audittrailv1.EmitResult{Result: &audittrailv1.EmitResult_Id{Id: id}})
	}
	return resp, nil
}

func (m *memory) GetEvent(_ context.Context, r *audittrailv1.GetEventRequest, _ ...grpc.CallOption) (*audittrailv1.GetEventResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.stored[r.Id]; e != nil {
		return &audittrailv1.GetEventResponse{Event: e}, nil
	}
	return nil, status.Error(codes.NotFound, "not stored")
}

// records yields n events; stop is called before number at.
func records(n, at int, stop func()) func(context.Context, func(*imported) error) error {
	return func(_ context.Context, yield func(*imported) error) error {
		for i := range n {
			if i == at {
				stop()
			}
			e := &audittrailv1.Event{Source: "aws/1/s3", Action: "s3.Get", IdempotencyKey: fmt.Sprint("k", i), OccurredAt: &timestamppb.Timestamp{Seconds: 1700000000}}
			if err := yield(&imported{file: "f", record: i + 1, event: e}); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestAnInterruptedImportCanBeRunAgain(t *testing.T) {
	const n = 5000
	m := &memory{stored: map[string]*audittrailv1.Event{}}
	ctx, cancel := context.WithCancel(t.Context())
	first := newImporter(m, m, &strings.Builder{})
	if err := first.run(ctx, records(n, 3000, cancel)); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted run = %v", err)
	}
	before := len(m.stored)
	if before == 0 || before >= n || first.accepted > before {
		t.Fatalf("%d stored, %d counted after the interrupt", before, first.accepted)
	}
	second := newImporter(m, m, &strings.Builder{})
	if err := second.run(t.Context(), records(n, -1, nil)); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("read %d, accepted %d, stored before %d, rejected 0", n, n-before, before); second.account() != want || len(m.stored) != n {
		t.Errorf("%q with %d stored, want %q", second.account(), len(m.stored), want)
	}
}

func TestAnImportSaysWhatIsStoredWithOtherContent(t *testing.T) {
	m := &memory{stored: map[string]*audittrailv1.Event{}}
	if err := newImporter(m, m, &strings.Builder{}).run(t.Context(), records(3, -1, nil)); err != nil {
		t.Fatal(err)
	}
	for _, e := range m.stored {
		if e.IdempotencyKey == "k1" {
			e.Reason = "another"
		}
	}
	var said strings.Builder
	again := newImporter(m, m, &said)
	if err := again.run(t.Context(), records(3, -1, nil)); err != nil {
		t.Fatal(err)
	}
	if again.account() != "read 3, accepted 0, stored before 2, rejected 1" || !strings.Contains(said.String(), "f, record 2: an event with the same source, key and time but other content is stored") {
		t.Errorf("%s\n%s", again.account(), said.String())
	}
}
