package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Stream is traffic for StreamEvents, encoded beforehand like Prepared: each worker has one stream.
type Stream struct {
	prepared *Prepared
	window   int
}

// PrepareStream encodes the traffic of c. Each stream has at most window events unacknowledged.
func PrepareStream(c Config, window int) (*Stream, error) {
	c.Batch = 1
	p := &Prepared{config: c.withDefaults(), requests: make([]request, c.Events)}
	return &Stream{p, window}, p.each(func(r *request) (err error) {
		e := p.events(r)[0]
		if r.body, err = (&audittrailv1.StreamEventsRequest{Sequence: sequence(r), Event: e}).MarshalVT(); err == nil {
			r.want, err = (&audittrailv1.EventAck{Sequence: sequence(r), Result: accepted(e)}).MarshalVT()
		}
		return err
	})
}

// sequence is one above the number of the event: protobuf leaves 0 out.
func sequence(r *request) int64 { return int64(r.first) + 1 }

// Run sends everything and returns when all of it is acknowledged or ctx ends. What a stream is refused for now is sent again in batches.
func (s *Stream) Run(ctx context.Context) error { return s.prepared.share(ctx, s.stream) }

var streamDesc = &grpc.StreamDesc{StreamName: "StreamEvents", ClientStreams: true, ServerStreams: true}

func (s *Stream) stream(ctx context.Context, conn grpc.ClientConnInterface, next func() *request) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rpc, err := conn.NewStream(ctx, streamDesc, audittrailv1.EmitterService_StreamEvents_FullMethodName, grpc.ForceCodecV2(preparedCodec{}))
	if err != nil {
		return fmt.Errorf("open a stream: %w", err)
	}
	room := make(chan struct{}, s.window) // holds a token for each event that is not acknowledged
	sent := make(chan error, 1)
	go func() { sent <- s.write(ctx, rpc, room, next) }()
	refused, acked, err := s.read(rpc, room)
	if err != nil {
		cancel()
	}
	if writeErr := <-sent; err == nil {
		err = writeErr
	}
	if err != nil {
		return err
	}
	if len(room) > 0 {
		return fmt.Errorf("the stream ended with %d events unacknowledged after %d", len(room), acked)
	}
	if len(refused) == 0 {
		return nil
	}
	return s.prepared.again(ctx, conn, refused)
}

func (s *Stream) write(ctx context.Context, rpc grpc.ClientStream, room chan<- struct{}, next func() *request) error {
	for r := next(); r != nil; r = next() {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := rpc.SendMsg(r); err != nil {
			if errors.Is(err, io.EOF) {
				return nil // read has the reason
			}
			return fmt.Errorf("send an event: %w", err)
		}
	}
	return rpc.CloseSend()
}

// read takes acknowledgements until the stream ends, and returns the events refused for now.
func (s *Stream) read(rpc grpc.ClientStream, room <-chan struct{}) (refused []*audittrailv1.Event, acked int, err error) {
	for {
		var got reply
		if err := rpc.RecvMsg(&got); err != nil {
			if errors.Is(err, io.EOF) {
				return refused, acked, nil
			}
			return nil, acked, fmt.Errorf("receive acknowledgements: %w", err)
		}
		for data := got.data; len(data) > 0; {
			_, _, tag := protowire.ConsumeTag(data) // the only field there is: acks
			ack, n := protowire.ConsumeBytes(data[max(0, tag):])
			if tag < 0 || n < 0 {
				return nil, acked, errors.New("response of the stream is malformed")
			}
			data = data[tag+n:]
			event, err := s.check(ack)
			if err != nil {
				return nil, acked, err
			}
			if event != nil {
				refused = append(refused, event)
			}
			acked++
			<-room
		}
	}
}

// check compares an acknowledgement with what it must be, and returns the event when it was refused for now.
func (s *Stream) check(encoded []byte) (*audittrailv1.Event, error) {
	n, size := protowire.ConsumeVarint(encoded[min(1, len(encoded)):])
	if size < 0 || n < 1 || n > uint64(len(s.prepared.requests)) {
		return nil, fmt.Errorf("acknowledgement %x is of no event", encoded)
	}
	r := &s.prepared.requests[n-1]
	if bytes.Equal(encoded, r.want) {
		return nil, nil
	}
	ack := &audittrailv1.EventAck{}
	if err := ack.UnmarshalVT(encoded); err != nil {
		return nil, fmt.Errorf("acknowledgement of event %d: %w", n, err)
	}
	event := s.prepared.events(r)[0]
	if id := ack.GetResult().GetId(); id != "" {
		return nil, fmt.Errorf("event %d was acknowledged as %s, want %s", r.first, id, text(event))
	}
	if code := codes.Code(ack.GetResult().GetStatus().GetCode()); !retryable(code) {
		return nil, fmt.Errorf("event %d was refused: %s: %s", r.first, code, ack.GetResult().GetStatus().GetMessage())
	}
	return event, nil
}
