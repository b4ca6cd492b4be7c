package table

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

var topicA, topicB = bytes.Repeat([]byte{0xa}, 16), bytes.Repeat([]byte{0xb}, 16)

func TestReplaces(t *testing.T) {
	a, b := [16]byte(topicA), [16]byte(topicB)
	for _, c := range []struct {
		name      string
		cur, next Version
		current   [16]byte
		want      bool
	}{
		{"R7: greater last_offset", Version{a, 5}, Version{a, 6}, a, true},
		{"R7: the same message again", Version{a, 5}, Version{a, 5}, a, true},
		{"R7: a zombie's", Version{a, 5}, Version{a, 4}, a, false},
		{"R7: a zombie's, in a view", Version{a, 5}, Version{a, 4}, [16]byte{}, false},
		{"R18: of the topic that is there now", Version{a, 5}, Version{b, 0}, b, true},
		{"R18: of the topic that was there before", Version{b, 0}, Version{a, 5}, b, false},
		{"R18: neither is there", Version{a, 5}, Version{b, 0}, [16]byte{1}, true},
		{"R18: a view takes the last", Version{a, 5}, Version{b, 0}, [16]byte{}, true},
	} {
		if got := Replaces(c.cur, c.next, c.current); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestCodec(t *testing.T) {
	s := &State{TopicId: topicA, LastOffset: 7, Accepted: make([]byte, 88), Actions: []*pipelinev1.ActionCount{{Action: "x", Count: 3}}}
	data, err := Codec{}.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Codec{}.Decode(data)
	if err != nil || !proto.Equal(got.(*State), s) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := (Codec{}).Encode("no state"); err == nil {
		t.Error("a string was encoded")
	}
	data[4]++
	if _, err := (Codec{}).Decode(data); !errors.Is(err, stream.ErrVersion) {
		t.Errorf("unknown version: %v", err)
	}
}

func TestAcceptedLayout(t *testing.T) {
	a := Accepted{ID: event.ID{1, 15: 2}, Index: 3, Fingerprint: 4, Enrichment: [16]byte{5, 15: 6}}
	b := AppendAccepted(nil, a)
	if len(b) != 44 || b[0] != 1 || b[15] != 2 || b[19] != 3 || b[27] != 4 || b[28] != 5 || b[43] != 6 {
		t.Errorf("%x", b)
	}
}

func FuzzAccepted(f *testing.F) {
	f.Add(AppendAccepted(AppendAccepted(nil, Accepted{Index: 1}), Accepted{Fingerprint: 2}))
	f.Fuzz(func(t *testing.T, field []byte) {
		var again []byte
		for a := range AllAccepted(field) {
			again = AppendAccepted(again, a)
		}
		if whole := field[:len(field)/AcceptedSize*AcceptedSize]; !bytes.Equal(again, whole) {
			t.Errorf("%x, want %x", again, whole)
		}
	})
}

func FuzzState(f *testing.F) {
	f.Add(stream.EncodeState(&State{TopicId: topicA, LastOffset: 1, Outcomes: []int64{1, 2}, Recent: []*pipelinev1.RecentEvent{{Id: []byte{1}}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Codec{}.Decode(data)
		if err != nil {
			return
		}
		ToActivity(v.(*State)) // whatever decodes can be shown
		if _, err := (Codec{}).Encode(v); err != nil {
			t.Error(err)
		}
	})
}

func TestActors(t *testing.T) {
	var a Actors
	for i := range MaxActors + 10 {
		a = a.Put(uint64(i), uint16(i))
	}
	a = a.Put(20, 7)
	if a.Len() != MaxActors || len(a) != MaxActors*ActorSize {
		t.Fatalf("%d actors", a.Len())
	}
	if _, known := a.Failures(9); known {
		t.Error("the oldest is still there")
	}
	if n, known := a.Failures(20); n != 7 || !known {
		t.Errorf("actor 20: %d, %v", n, known)
	}
	if latest := binary.BigEndian.Uint64(a[(MaxActors-1)*ActorSize:]); latest != 20 {
		t.Errorf("the latest is %d", latest)
	}
	if ActorHash("user", "1") == ActorHash("user1", "") || ActorHash("a", "b") == ActorHash("b", "a") {
		t.Error("hash")
	}
}

func TestToActivity(t *testing.T) {
	id := event.ID{1, 2}
	got := ToActivity(&State{FirstSeenMs: 1000, LastSeenMs: 2000, Events: 3, Duplicates: 1, Late: 2, DeadLetters: 4, Outcomes: []int64{0, 2, 0, 1},
		Actions: []*pipelinev1.ActionCount{{Action: "b", Count: 1}, {Action: "c", Count: 2}, {Action: "a", Count: 1}},
		Recent:  []*pipelinev1.RecentEvent{{Id: id[:], OccurredAtMs: 2000, Action: "b", Outcome: 3, ActorId: "x"}}, Actors: make([]byte, 20)})
	want := &audittrailv1.SourceActivity{FirstSeenAt: timestamppb.New(time.UnixMilli(1000)), LastSeenAt: timestamppb.New(time.UnixMilli(2000)),
		EventCount: 3, DuplicateCount: 1, LateCount: 2, DeadLetterCount: 4, KnownActorCount: 2,
		Outcomes:     []*audittrailv1.OutcomeCount{{Outcome: 1, Count: 2}, {Outcome: 3, Count: 1}},
		TopActions:   []*audittrailv1.ActionCount{{Action: "c", Count: 2}, {Action: "a", Count: 1}, {Action: "b", Count: 1}},
		RecentEvents: []*audittrailv1.RecentEvent{{Id: id.String(), OccurredAt: timestamppb.New(time.UnixMilli(2000)), Action: "b", Outcome: 3, ActorId: "x"}}}
	if !proto.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if ToActivity(nil) != nil {
		t.Error("nothing seen gives something")
	}
}

// TestUpdate: a view keeps the greatest last_offset whatever the order (R7), without the ids, and goes on past garbage.
func TestUpdate(t *testing.T) {
	s := NewStorage()
	for _, value := range [][]byte{
		stream.EncodeState(&State{TopicId: topicA, LastOffset: 2, Events: 2, Accepted: make([]byte, 44)}),
		stream.EncodeState(&State{TopicId: topicA, LastOffset: 1, Events: 1}),
		[]byte("garbage"),
	} {
		if err := Update(nil, s, "k", value); err != nil {
			t.Fatal(err)
		}
	}
	data, _ := s.Get("k")
	got, err := stream.DecodeState(data)
	if err != nil || got.Events != 2 || got.Accepted != nil {
		t.Errorf("%v, %v", got, err)
	}
	if err := Update(nil, s, "k", nil); err != nil {
		t.Fatal(err)
	}
	if ok, _ := s.Has("k"); ok {
		t.Error("the tombstone left it there")
	}
}

func TestStorage(t *testing.T) {
	s := NewStorage()
	if n, _ := s.GetOffset(-3); n != -3 {
		t.Errorf("offset of an empty storage: %d", n)
	}
	_ = s.SetOffset(0)
	if n, _ := s.GetOffset(-3); n != 0 {
		t.Errorf("offset: %d", n)
	}
	for _, k := range []string{"b", "a/2", "a/1", "c"} {
		_ = s.Set(k, []byte("v"+k))
	}
	for _, c := range []struct{ start, limit, want string }{{"", "", "[a/1 a/2 b c]"}, {"a/", "", "[a/1 a/2]"}, {"a/2", "c", "[a/2 b]"}} {
		it, _ := s.IteratorWithRange([]byte(c.start), []byte(c.limit))
		var keys []string
		for it.Next() {
			keys = append(keys, string(it.Key()))
			if v, _ := it.Value(); string(v) != "v"+string(it.Key()) {
				t.Errorf("value %q of %q", v, it.Key())
			}
		}
		if fmt.Sprint(keys) != c.want || !slices.IsSorted(keys) {
			t.Errorf("%q to %q: %v, want %s", c.start, c.limit, keys, c.want)
		}
	}
	it, _ := s.Iterator()
	if !it.Seek([]byte("aa")) || !it.Next() || string(it.Key()) != "b" {
		t.Errorf("seek")
	}
}
