// Package grpccodec is the protobuf codec of our gRPC servers and clients: the wire format of gRPC's own, at about half its CPU,
// by the generated code of vtprotobuf where a message has it and by google.golang.org/protobuf where not.
//
// It differs in one thing: text that is not valid UTF-8 reaches the service, which can name the field, instead of failing the call
// with INTERNAL.
package grpccodec

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// New returns the codec, for grpc.ForceServerCodecV2 and grpc.ForceCodecV2.
func New() encoding.CodecV2 { return codec{} }

type codec struct{}

type marshaler interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
}

// Name implements encoding.CodecV2: the content subtype of gRPC's own codec.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case marshaler:
		size := m.SizeVT()
		if mem.IsBelowBufferPoolingThreshold(size) {
			buf := make([]byte, size)
			if _, err := m.MarshalToSizedBufferVT(buf); err != nil {
				return nil, fmt.Errorf("encode %T: %w", v, err)
			}
			return mem.BufferSlice{mem.SliceBuffer(buf)}, nil
		}
		pool := mem.DefaultBufferPool()
		buf := pool.Get(size)
		if _, err := m.MarshalToSizedBufferVT((*buf)[:size]); err != nil {
			pool.Put(buf)
			return nil, fmt.Errorf("encode %T: %w", v, err)
		}
		return mem.BufferSlice{mem.NewBuffer(buf, pool)}, nil
	case proto.Message:
		buf, err := proto.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("encode %T: %w", v, err)
		}
		return mem.BufferSlice{mem.SliceBuffer(buf)}, nil
	default:
		return nil, fmt.Errorf("encode %T: not a protobuf message", v)
	}
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	// The hot path: strings of the message point into one buffer of its own, instead of an allocation each.
	case *audittrailv1.BatchEmitEventsRequest:
		return decodeBatch(m, data.Materialize())
	case *audittrailv1.EmitEventRequest:
		return m.UnmarshalVTUnsafe(data.Materialize())
	case *audittrailv1.StreamEventsRequest:
		return m.UnmarshalVTUnsafe(data.Materialize())
	case interface{ UnmarshalVT([]byte) error }:
		buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer buf.Free()
		return m.UnmarshalVT(buf.ReadOnlyData())
	case proto.Message:
		buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer buf.Free()
		return proto.Unmarshal(buf.ReadOnlyData(), m)
	default:
		return fmt.Errorf("decode %T: not a protobuf message", v)
	}
}
