package stream

import (
	"fmt"

	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
)

// message is what vtproto generates for every message.
type message interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
	UnmarshalVTUnsafe([]byte) error
}

// EncodeBatch returns the value of Events for a batch.
func EncodeBatch(b *pipelinev1.EventBatch) []byte { return encode(kindBatch, b) }

// EncodeRecords returns the value of Records.
func EncodeRecords(b *pipelinev1.RecordBatch) []byte { return encode(kindRecords, b) }

// EncodeState returns the value of Table.
func EncodeState(s *pipelinev1.SourceState) []byte { return encode(kindState, s) }

// EncodeDeadLetter returns the value of DeadLetters.
func EncodeDeadLetter(d *pipelinev1.DeadLetter) []byte { return encode(kindDeadLetter, d) }

// DecodeEvents returns the encoded events in a value of Events: those of a batch, or the value itself when a raw producer wrote one
// single event. It does not look into the events. They share value's memory. Errors: ErrVersion, ErrMalformed.
func DecodeEvents(value []byte) ([][]byte, error) {
	switch {
	case len(value) == 0:
		return nil, fmt.Errorf("empty value: %w", ErrMalformed)
	case value[0] != 0x00:
		return [][]byte{value}, nil
	}
	var b pipelinev1.EventBatch
	if err := decode(kindBatch, value, &b); err != nil {
		return nil, err
	}
	return b.Events, nil
}

// DecodeRecords decodes a value of Records. The result shares value's memory. Errors: ErrVersion, ErrMalformed.
func DecodeRecords(value []byte) (*pipelinev1.RecordBatch, error) {
	m := new(pipelinev1.RecordBatch)
	return m, decode(kindRecords, value, m)
}

// DecodeState decodes a value of Table. The result shares value's memory. Errors: ErrVersion, ErrMalformed.
func DecodeState(value []byte) (*pipelinev1.SourceState, error) {
	m := new(pipelinev1.SourceState)
	return m, decode(kindState, value, m)
}

// DecodeDeadLetter decodes a value of DeadLetters. The result shares value's memory. Errors: ErrVersion, ErrMalformed.
func DecodeDeadLetter(value []byte) (*pipelinev1.DeadLetter, error) {
	m := new(pipelinev1.DeadLetter)
	return m, decode(kindDeadLetter, value, m)
}

func encode(k kind, m message) []byte {
	size := m.SizeVT()
	buf := appendHeader(make([]byte, 0, headerLen+size), k)[:headerLen+size]
	if _, err := m.MarshalToSizedBufferVT(buf[headerLen:]); err != nil {
		// Marshalling into a buffer of SizeVT fails only on invalid UTF-8 in protobuf-go; vtproto does not check it.
		panic(fmt.Sprintf("marshal %T: %v", m, err))
	}
	return buf
}

func decode(k kind, value []byte, m message) error {
	payload, err := open(k, value)
	if err != nil {
		return err
	}
	if err := m.UnmarshalVTUnsafe(payload); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// BytesCodec is goka's codec for topics that are decoded in the callback: goka dies on an error of a codec. The decoded value is the
// message's own memory.
type BytesCodec struct{}

// Encode implements goka.Codec for []byte.
func (BytesCodec) Encode(value any) ([]byte, error) {
	b, ok := value.([]byte)
	if !ok {
		return nil, fmt.Errorf("encode %T: want []byte", value)
	}
	return b, nil
}

// Decode implements goka.Codec.
func (BytesCodec) Decode(data []byte) (any, error) { return data, nil }
