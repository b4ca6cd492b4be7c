package sink

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

// probeChunk is how many ids one query looks for: neighbours in time, so that few leaves are opened.
const probeChunk = 1000

// place is where a record stands that is stored already.
type place struct {
	id          [16]byte
	fingerprint int64
	log         int16
	index       int64
	day         int16
}

// probe finds which records of the batch are stored already, and gives them and their copies their verdict (R16): the same content is a retry,
// other content a dead letter at its own place in the log. It returns how many ids were found. Ids that were settled by an earlier probe are looked
// for again; the verdict is the same.
func (s *store) probe(ctx context.Context, b *batch) (int, error) {
	ids := slices.Clone(b.ids.ids)
	slices.SortFunc(ids, event.ID.Compare)
	var found []place
	for chunk := range slices.Chunk(ids, probeChunk) {
		var err error
		if found, err = s.find(ctx, chunk, found); err != nil {
			return 0, fmt.Errorf("probe ids: %w", err)
		}
	}
	reader := recordReader{store: s, bundles: make(map[bundleKey][]segment.Entry)}
	settled := make(map[int32]*place, len(found))
	for i := range found {
		p := &found[i]
		n, _ := b.ids.put(p.id, -1) // it is there
		settled[n] = p
		if err := reader.judge(ctx, b.firsts[n], p); err != nil {
			return 0, err
		}
	}
	for _, c := range b.copies {
		if p := settled[c.first]; p != nil {
			if err := reader.judge(ctx, c.decision, p); err != nil {
				return 0, err
			}
		}
	}
	return len(found), nil
}

// find looks for ids in order. The bounds let the planner leave out all leaves but theirs.
func (s *store) find(ctx context.Context, ids []event.ID, found []place) ([]place, error) {
	list := make([][16]byte, len(ids))
	for i, id := range ids {
		list[i] = id
	}
	rows, err := s.db.Query(ctx, `SELECT id, fingerprint, log_id, log_index, day FROM audittrail.events
		WHERE id >= $1 AND id <= $2 AND id = ANY ($3::uuid[])`, list[0], list[len(list)-1], list)
	if err != nil {
		return nil, err
	}
	var p place
	_, err = pgx.ForEachRow(rows, []any{&p.id, &p.fingerprint, &p.log, &p.index, &p.day}, func() error {
		found = append(found, p)
		return nil
	})
	return found, err
}

// recordReader reads stored records, each bundle once.
type recordReader struct {
	store   *store
	bundles map[bundleKey][]segment.Entry
}

type bundleKey struct {
	log    int16
	bundle int64
}

// judge compares a record with the stored one. The stored record is read only when the fingerprints are equal.
func (r *recordReader) judge(ctx context.Context, d *decision, p *place) error {
	if d.verdict == killed {
		d.verdict, d.dead = fresh, nil // an earlier verdict against a copy in the batch
	}
	if uint64(p.fingerprint) != d.fingerprint() {
		d.repeats(false)
		return nil
	}
	stored, err := r.read(ctx, p)
	if err != nil {
		return err
	}
	same, err := sameContent(d.fingerprint(), stored, d.fingerprint(), d.record())
	if err != nil {
		return err
	}
	d.repeats(same)
	return nil
}

func (r *recordReader) read(ctx context.Context, p *place) ([]byte, error) {
	key := bundleKey{p.log, p.index / bundleSize}
	entries, ok := r.bundles[key]
	if !ok {
		var err error
		if entries, err = r.store.bundle(ctx, key, p.day); err != nil {
			return nil, fmt.Errorf("read stored record %x: %w", p.id, err)
		}
		if len(r.bundles) >= maxBundles {
			clear(r.bundles)
		}
		r.bundles[key] = entries
	}
	at := int(p.index % bundleSize)
	if at >= len(entries) || entries[at].Kind != segment.KindRecord {
		return nil, fmt.Errorf("read stored record %x: %w: entry %d of log %d is no record", p.id, errCorrupt, p.index, p.log)
	}
	return entries[at].Payload, nil
}

// maxBundles bounds the memory of a recordReader to some tens of megabytes.
const maxBundles = 256

// bundle reads the entries of a bundle, complete or open, in one snapshot.
func (s *store) bundle(ctx context.Context, key bundleKey, day int16) ([]segment.Entry, error) {
	rows, err := s.db.Query(ctx, `SELECT data FROM (
		SELECT first_index, data FROM audittrail.tail WHERE log_id = $1 AND first_index >= $2 * 256 AND first_index < $2 * 256 + 256
		UNION ALL SELECT bundle * 256, data FROM audittrail.segments WHERE day = $3 AND log_id = $1 AND bundle = $2) x ORDER BY first_index`,
		key.log, key.bundle, day)
	if err != nil {
		return nil, err
	}
	var entries []segment.Entry
	var data []byte
	_, err = pgx.ForEachRow(rows, []any{&data}, func() error {
		part, err := segment.Decode(slices.Clone(data))
		entries = append(entries, part...)
		return err
	})
	return entries, err
}
