package views

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/views/viewstest"
)

// FuzzRecord: the evaluator reads any bytes without harm, and decides over every encoding that the decoder takes as the naive evaluation
// does over what it makes of it. So does the reader of ids.
func FuzzRecord(f *testing.F) {
	now := time.Now()
	gen := viewstest.NewGenerator(41, now, time.Hour)
	var filters []*compiled
	for range 60 {
		c, err := compile(gen.Filter(2), now)
		if err != nil {
			f.Fatal(err)
		}
		filters = append(filters, c)
	}
	for range 20 {
		record, _ := gen.Event().MarshalVT()
		f.Add(record)
	}
	f.Add([]byte{0x2a, 0x80})
	f.Add([]byte("\x22\x00\x22\x02\x08\x01\x62\x00"))
	f.Fuzz(func(t *testing.T, record []byte) {
		e := new(audittrailv1.Event)
		// The generated decoder alone takes entries of a map that reach beyond their end; the strict one refuses them.
		decodes := e.UnmarshalVT(record) == nil && proto.Unmarshal(record, new(audittrailv1.Event)) == nil
		for _, c := range filters {
			got, err := c.match(place{}, record)
			if decodes && err == nil && got != c.filter.Match(e) {
				t.Fatalf("%s: %v of %v", c.filter, got, e)
			}
		}
		if id, err := filters[0].ids.of(record); decodes && err == nil && id != event.IDOf(e) {
			t.Fatalf("id %v of %v", id, e)
		}
		for i := range fields {
			if r, ok := newFieldReader(fields[i].name); ok {
				r.read(place{}, record, func([]byte) {})
			}
		}
	})
}

// FuzzCursor: what is decoded is encoded to the same bytes again, or refused.
func FuzzCursor(f *testing.F) {
	f.Add(cursor{now: time.Unix(0, 1), sizes: sizes{1, 2}}.encode())
	f.Add(cursor{now: time.Unix(0, 1), begun: true, at: event.ID{1}, rows: true, sizes: sizes{1, 2}}.encode())
	f.Add(cursor{now: time.Unix(0, 1), begun: true, front: &front{opened: event.ID{2}, waiting: []place{{1, 2}, {3, 4}}}, sizes: sizes{300}}.encode())
	keys := tokens{key: [32]byte{1}}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := keys.open(walkList, string(b), "filter"); err == nil {
			t.Fatal("opened")
		}
		c, err := decodeCursor(b)
		if err != nil {
			return
		}
		again, err := decodeCursor(c.encode())
		if err != nil || !bytes.Equal(again.encode(), c.encode()) {
			t.Fatalf("%x becomes %x, %v", b, c.encode(), err)
		}
	})
}
