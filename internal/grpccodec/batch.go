package grpccodec

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// decodeBatch is what the generated code does, with events from the pool: they are most of what the emitter allocates. Recycle puts them
// there.
func decodeBatch(m *audittrailv1.BatchEmitEventsRequest, data []byte) error {
	for len(data) > 0 {
		num, kind, tag := protowire.ConsumeTag(data)
		if tag < 0 {
			return fmt.Errorf("decode %T: %w", m, protowire.ParseError(tag))
		}
		n := protowire.ConsumeFieldValue(num, kind, data[tag:])
		if n < 0 {
			return fmt.Errorf("decode %T: %w", m, protowire.ParseError(n))
		}
		field := data[:tag+n]
		data = data[tag+n:]
		if num != batchEvents || kind != protowire.BytesType {
			if err := m.UnmarshalVTUnsafe(field); err != nil { // adds to what is there
				return err
			}
			continue
		}
		frame, _ := protowire.ConsumeBytes(field[tag:])
		e := audittrailv1.EventFromVTPool()
		m.Events = append(m.Events, e)
		if err := e.UnmarshalVTUnsafe(frame); err != nil {
			return err
		}
	}
	return nil
}

// batchEvents is the number of the field events in BatchEmitEventsRequest.
const batchEvents = 1

// Recycle is an interceptor that gives the events of a batch back to the pool when it is answered: half of the emitter's allocations. It
// must be the innermost one, or no interceptor may look at the events after its handler has returned. The emitter keeps none of
// them: what is in flight is encoded.
func Recycle(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	if batch, ok := req.(*audittrailv1.BatchEmitEventsRequest); ok {
		for _, e := range batch.Events {
			e.ReturnToVTPool()
		}
		batch.Events = nil
	}
	return resp, err
}
