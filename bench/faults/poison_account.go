package faults

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/maxviazov/audittrail/bench/ledger"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// letter is a dead letter that must come.
type letter struct {
	partition int32 // -1: only the emitter knows where it wrote the event
	offset    int64
	index     uint32
	whole     bool
	reason    string // empty: bytes at random may be anything
	says      string // part of the detail
	key       []byte
	original  []byte              // nil: see event
	event     *audittrailv1.Event // what the original says, its stamps left out
}

// expect says that the message must become a dead letter, or one of its events.
func (b *badInput) expect(r *kgo.Record, want letter) {
	want.partition, want.offset = r.Partition, r.Offset
	if want.key == nil {
		want.key = r.Key
	}
	if want.original == nil && want.event == nil {
		want.original = r.Value
	}
	b.expected = append(b.expected, want)
}

// stored is one row of deadletters.
type storedLetter struct {
	ID          int64
	Partition   int16
	Offset      int64
	Index       int32
	Whole       bool
	Reason      string
	Detail      string
	Source      string
	Key         []byte
	Original    []byte
	Size        int64
	SHA256      []byte
	WasRedriven bool
}

func (b *badInput) storedLetters(t *T) []storedLetter {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), b.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), `SELECT deadletter_id, log_id, input_offset, input_index, whole_message, reason, detail, source, key,
		original, original_size, original_sha256, redriven_at IS NOT NULL FROM audittrail.deadletters ORDER BY deadletter_id`)
	if err != nil {
		t.Fatal(err)
	}
	letters, err := pgx.CollectRows(rows, pgx.RowToStructByPos[storedLetter])
	if err != nil {
		t.Fatal(err)
	}
	return letters
}

// account compares the table of dead letters with what must be there, one by one, and returns its rows.
func (b *badInput) account(t *T) []storedLetter {
	t.Helper()
	rows := b.storedLetters(t)
	left := slices.Clone(rows)
	for _, want := range b.expected {
		i := slices.IndexFunc(left, func(row storedLetter) bool { return want.isAt(row) })
		if i < 0 {
			t.Errorf("dead letter is missing: %s", want)
			continue
		}
		if problem := want.differs(left[i]); problem != "" {
			t.Errorf("dead letter %s: %s; it is %s: %s", want, problem, left[i].Reason, left[i].Detail)
		}
		left = slices.Delete(left, i, i+1)
	}
	for _, row := range left {
		t.Errorf("dead letter of %d@%d.%d that nobody expected: %s: %s (%d bytes: %.40q)", row.Partition, row.Offset, row.Index, row.Reason, row.Detail, row.Size, row.Original)
	}
	return rows
}

func (l letter) String() string {
	return fmt.Sprintf("of %d@%d.%d, %s %q", l.partition, l.offset, l.index, l.reason, l.says)
}

func (l letter) isAt(row storedLetter) bool {
	if l.partition >= 0 {
		return l.partition == int32(row.Partition) && l.offset == row.Offset && int32(l.index) == row.Index
	}
	return l.event != nil && l.sameEvent(row.Original)
}

func (l letter) sameEvent(original []byte) bool {
	e := &audittrailv1.Event{}
	if err := proto.Unmarshal(original, e); err != nil {
		return false
	}
	want, err := ledger.Hash(l.event)
	have, err2 := ledger.Hash(e)
	return err == nil && err2 == nil && want == have
}

// differs returns what is wrong with the dead letter, or "".
func (l letter) differs(row storedLetter) string {
	sum := sha256.Sum256(row.Original)
	switch {
	case l.reason != "" && row.Reason != l.reason:
		return "the reason is another"
	case !strings.Contains(row.Detail, l.says):
		return "the detail does not say so"
	case row.Whole != l.whole:
		return fmt.Sprintf("stands for the whole message: %v", row.Whole)
	case !bytes.Equal(row.Key, l.key):
		return fmt.Sprintf("the key is %q, not %q", row.Key, l.key)
	}
	if l.event != nil && l.original == nil {
		switch {
		case !l.sameEvent(row.Original):
			return "the original is another event"
		case row.Size != int64(len(row.Original)) || !bytes.Equal(row.SHA256, sum[:]):
			return "size or hash are not those of the original"
		}
		return ""
	}
	sum = sha256.Sum256(l.original)
	switch {
	case row.Size != int64(len(l.original)) || !bytes.Equal(row.SHA256, sum[:]):
		return fmt.Sprintf("size (%d) or hash are not those of the original (%d)", row.Size, len(l.original))
	case !bytes.Equal(row.Original, l.original[:min(len(l.original), 64<<10)]):
		return "the original is not kept, up to 64 KiB"
	}
	return ""
}
