package stream

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func TestEnvelopeRoundTrip(t *testing.T) {
	batch := &pipelinev1.EventBatch{Events: [][]byte{{1, 2}, {3}}}
	events, err := DecodeEvents(EncodeBatch(batch))
	if err != nil || len(events) != 2 || !bytes.Equal(events[0], []byte{1, 2}) || !bytes.Equal(events[1], []byte{3}) {
		t.Errorf("DecodeEvents = %v, %v", events, err)
	}
	records := &pipelinev1.RecordBatch{
		TopicId: bytes.Repeat([]byte{7}, 16), RuleVersion: 1, FromOffset: 3, EndOffset: 5, EndIndex: 2, Key: []byte("acme"),
		Records: []*pipelinev1.Record{{Index: 1, Id: bytes.Repeat([]byte{9}, 16), Fingerprint: 1 << 63, Record: []byte("r")}},
		Drops:   []*pipelinev1.Drop{{Index: 2, FirstOffset: 1}},
	}
	gotRecords, err := DecodeRecords(EncodeRecords(records))
	expectEqual(t, gotRecords, records, err)
	state := &pipelinev1.SourceState{LastOffset: 9, Accepted: []byte{1}, Outcomes: []int64{0, 5}}
	gotState, err := DecodeState(EncodeState(state))
	expectEqual(t, gotState, state, err)
	letter := &pipelinev1.DeadLetter{Reason: "OVERSIZE", Original: []byte{0xff}, Partition: 3}
	gotLetter, err := DecodeDeadLetter(EncodeDeadLetter(letter))
	expectEqual(t, gotLetter, letter, err)
}

func expectEqual(t *testing.T, got, want proto.Message, err error) {
	t.Helper()
	if err != nil || !proto.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestRawEventIsServedAsItIs(t *testing.T) {
	raw, err := proto.Marshal(&audittrailv1.Event{Source: "acme/api", Action: "user.login"})
	if err != nil {
		t.Fatal(err)
	}
	events, err := DecodeEvents(raw)
	if err != nil || len(events) != 1 || !bytes.Equal(events[0], raw) {
		t.Errorf("DecodeEvents = %x, %v, want the value itself", events, err)
	}
}

func TestDecodeTellsNewerFromPoison(t *testing.T) {
	good := EncodeBatch(&pipelinev1.EventBatch{Events: [][]byte{{1}}})
	newer := bytes.Clone(good)
	newer[4] = 2
	tests := []struct {
		name  string
		value []byte
		want  error
	}{
		{"nil", nil, ErrMalformed},
		{"empty", []byte{}, ErrMalformed},
		{"newer version", newer, ErrVersion},
		{"newer version whose payload this program cannot read", []byte("\x00ATE\x02\xff\xff\xff"), ErrVersion},
		{"magic of another topic", EncodeState(&pipelinev1.SourceState{}), ErrMalformed},
		{"cut in the magic", good[:3], ErrMalformed},
		{"cut before the version", good[:4], ErrMalformed},
		{"cut in the payload", good[:len(good)-1], ErrMalformed},
		{"field number 0", []byte{0x00, 0x01}, ErrMalformed},
		{"rubbish behind the header", []byte("\x00ATE\x01\xff\xff\xff"), ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			events, err := DecodeEvents(tt.value)
			if !errors.Is(err, tt.want) {
				t.Errorf("DecodeEvents = %v, %v, want %v", events, err, tt.want)
			}
			if errors.Is(err, ErrVersion) && errors.Is(err, ErrMalformed) {
				t.Error("an unknown version must never look like poison")
			}
		})
	}
	if _, err := DecodeRecords([]byte("raw")); !errors.Is(err, ErrMalformed) {
		t.Errorf("DecodeRecords without magic: %v, want %v", err, ErrMalformed)
	}
}

func FuzzDecodeEvents(f *testing.F) {
	f.Add(EncodeBatch(&pipelinev1.EventBatch{Events: [][]byte{{1, 2}, {}}}))
	f.Add([]byte("\x00ATE\x02"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, value []byte) {
		before := bytes.Clone(value)
		events, err := DecodeEvents(value)
		if !bytes.Equal(before, value) {
			t.Fatal("decoding changed the value")
		}
		if err != nil {
			if errors.Is(err, ErrVersion) == errors.Is(err, ErrMalformed) {
				t.Fatalf("error is neither or both of the two kinds: %v", err)
			}
			return
		}
		if value[0] != 0x00 {
			return
		}
		again, err := DecodeEvents(EncodeBatch(&pipelinev1.EventBatch{Events: events}))
		if err != nil || len(again) != len(events) {
			t.Fatalf("round trip: %d events, %v, want %d", len(again), err, len(events))
		}
	})
}
