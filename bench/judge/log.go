package judge

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/proto"

	"github.com/maxviazov/audittrail/bench/ledger"
	"github.com/maxviazov/audittrail/bench/load"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Written from docs/segment-format.md, not with the service's code.
const (
	bundleSize     = 256
	kindRecord     = 1
	kindGap        = 2
	kindDeadLetter = 3
)

type entry struct {
	kind    byte
	payload []byte
}

func decode(data []byte) ([]entry, error) {
	if len(data) == 0 {
		return nil, errors.New("empty data")
	}
	framed := data[1:]
	switch data[0] {
	case 0:
	case 1:
		var err error
		if framed, err = s2.Decode(nil, framed); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("codec %d", data[0])
	}
	var entries []entry
	for len(framed) > 0 {
		if len(framed) < 3 {
			return nil, fmt.Errorf("%d bytes left", len(framed))
		}
		n := int(binary.BigEndian.Uint16(framed))
		if n < 1 || 2+n > len(framed) {
			return nil, fmt.Errorf("entry of %d bytes", n)
		}
		entries = append(entries, entry{framed[2], framed[3 : 2+n]})
		framed = framed[2+n:]
	}
	return entries, nil
}

// readLog walks one log from its first entry to its last: complete bundles, then the tail.
func (v *Verdict) readLog(ctx context.Context, tx pgx.Tx, h head, sent map[[16]byte]ledger.State, stored map[[16]byte]place) error {
	w := walk{Verdict: v, head: h, sent: sent, stored: stored}
	rows, err := tx.Query(ctx, `SELECT t.bundle, t.hashes, s.data FROM audittrail.tiles0 t
		LEFT JOIN audittrail.segments s ON s.day = t.day AND s.log_id = t.log_id AND s.bundle = t.bundle
		WHERE t.log_id = $1 ORDER BY t.bundle`, h.log)
	if err != nil {
		return fmt.Errorf("read segments: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var bundle int64
		var hashes, data []byte
		if err := rows.Scan(&bundle, &hashes, &data); err != nil {
			return fmt.Errorf("read segments: %w", err)
		}
		w.at(bundle * bundleSize)
		entries, err := decode(data)
		if err != nil || len(entries) != bundleSize {
			v.blame(&v.Holes, "bundle %d/%d: %d entries, %v", h.log, bundle, len(entries), err)
			continue
		}
		for i, e := range entries {
			if leaf := sha256.Sum256(append([]byte{0, e.kind}, e.payload...)); string(leaf[:]) != string(hashes[32*i:32*i+32]) {
				v.blame(&v.Hashes, "hash of entry %d/%d differs", h.log, bundle*bundleSize+int64(i))
			}
			w.take(e)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read segments: %w", err)
	}
	if err := w.tail(ctx, tx); err != nil {
		return err
	}
	if w.next != h.size || w.records != h.records || w.dead != h.dead || w.gaps != h.gaps {
		v.blame(&v.Heads, "head of log %d says %d entries (%d records, %d dead letters, %d gaps), the log has %d (%d, %d, %d)",
			h.log, h.size, h.records, h.dead, h.gaps, w.next, w.records, w.dead, w.gaps)
	}
	v.Entries += int(w.next)
	return nil
}

func (w *walk) tail(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT first_index, n, data FROM audittrail.tail WHERE log_id = $1 ORDER BY first_index`, w.log)
	if err != nil {
		return fmt.Errorf("read tail: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var first int64
		var n int16
		var data []byte
		if err := rows.Scan(&first, &n, &data); err != nil {
			return fmt.Errorf("read tail: %w", err)
		}
		w.at(first)
		entries, err := decode(data)
		if err != nil || len(entries) != int(n) {
			w.blame(&w.Holes, "tail row %d/%d: %d entries, %v", w.log, first, len(entries), err)
			continue
		}
		for _, e := range entries {
			w.take(e)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read tail: %w", err)
	}
	return nil
}

// walk is the way through one log.
type walk struct {
	*Verdict
	head
	sent   map[[16]byte]ledger.State
	stored map[[16]byte]place

	next                int64 // index of the next entry
	records, dead, gaps int64
}

// at checks that a row begins where the one before ended.
func (w *walk) at(index int64) {
	if index != w.next {
		w.blame(&w.Holes, "log %d: a row begins at entry %d, expected %d", w.log, index, w.next)
		w.next = index
	}
}

func (w *walk) take(e entry) {
	index := w.next
	w.next++
	switch e.kind {
	case kindRecord:
		w.records++
		w.record(index, e.payload)
	case kindGap:
		w.gaps++
		w.blame(&w.Gaps, "gap at entry %d/%d: %x", w.log, index, e.payload)
	case kindDeadLetter:
		w.dead++
		w.DeadLetters++
	default:
		w.blame(&w.Holes, "entry %d/%d has kind %d", w.log, index, e.kind)
	}
}

func (w *walk) record(index int64, payload []byte) {
	w.Stored++
	e := &audittrailv1.Event{}
	if err := proto.Unmarshal(payload, e); err != nil {
		w.blame(&w.Changed, "record %d/%d: %v", w.log, index, err)
		return
	}
	id := load.ID(e)
	if p, twice := w.stored[id]; twice {
		w.blame(&w.Duplicated, "%x stands at %d/%d and %d/%d", id, p.log, p.index, w.log, index)
		return
	}
	w.stored[id] = place{w.log, index}
	w.sources[e.GetSource()]++
	if partitionOf(e.GetSource(), w.partitions) != int32(w.log) {
		w.blame(&w.Misplaced, "%x of source %s stands in log %d", id, e.GetSource(), w.log)
	}
	state, known := w.sent[id]
	if !known {
		w.blame(&w.Phantom, "%x was never sent", id)
		return
	}
	if hash, err := ledger.Hash(e); err != nil || hash != state.Hash {
		w.blame(&w.Changed, "%x has other content than was sent (%v)", id, err)
	}
}
