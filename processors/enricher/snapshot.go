package enricher

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/maxviazov/audittrail/processors/enricher/table"
	"github.com/maxviazov/audittrail/proto/stream"
)

// A snapshot is a file with the content of a store, so that a restart reads the tail of the changelog only. It
// is a cache: whatever is wrong with it, the changelog has everything. All numbers are big endian.
//
//	magic 8 · version u32 · partition u32 · topic ids of events and table 16+16 · offset i64 · stream time i64
//	number of states u32, then each: length u32, key, length u32, value
//	chunks of window entries: their number u32, then each 60 bytes; a chunk of 0 ends them
//	CRC-32C of everything before u32
const (
	snapshotMagic   = "ATWINDOW"
	snapshotVersion = 1
	entrySize       = 16 + 8 + 8 + 4 + 8 + table.EnrichmentSize
	snapshotChunk   = 4096 // entries that are copied at once, while processing waits: about 50 µs
	maxSnapshotItem = 4 << 20
)

var (
	errNoSnapshot = errors.New("there is no snapshot")
	castagnoli    = crc32.MakeTable(crc32.Castagnoli)
)

func snapshotPath(dir string, partition int32) string {
	return filepath.Join(dir, fmt.Sprintf("enricher-%d.snapshot", partition))
}

// saved says what a snapshot holds.
type saved struct {
	offset, bytes int64
	sources, ids  int
}

// save writes a snapshot beside the old one and puts it in its place. Processing goes on meanwhile: the offset is
// taken first, so what the file holds is that offset or later, never earlier. If the process dies here, the old
// snapshot is still there.
func (s *store) save(ctx context.Context, dir string) (saved, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return saved{}, fmt.Errorf("save snapshot: %w", err)
	}
	path := snapshotPath(dir, s.partition)
	// One name for each process: two replicas may share a directory.
	temporary := fmt.Sprintf("%s.%d.tmp", path, os.Getpid())
	began := time.Now()
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return saved{}, fmt.Errorf("save snapshot: %w", err)
	}
	w := newSnapshotWriter(f)
	changes, info := s.write(ctx, w)
	err = errors.Join(w.finish(), ctx.Err())
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return saved{}, errors.Join(fmt.Errorf("save snapshot: %w", err), os.Remove(temporary))
	}
	s.mu.Lock()
	s.life.saved, s.life.savedAt = changes, began
	s.mu.Unlock()
	info.bytes = w.n
	return info, nil
}

func (s *store) write(ctx context.Context, w *snapshotWriter) (changes uint64, info saved) {
	s.mu.Lock()
	changes = s.life.changes
	ids, offset, now, next := s.ids, s.offset, s.window.now, s.window.head
	states := make([]struct {
		key   string
		value []byte
	}, 0, len(s.states))
	for key, h := range s.states {
		states = append(states, struct {
			key   string
			value []byte
		}{key, h.value})
	}
	s.mu.Unlock()

	w.write([]byte(snapshotMagic))
	w.u32(snapshotVersion)
	w.u32(uint32(s.partition))
	w.write(ids.events[:])
	w.write(ids.table[:])
	w.u64(uint64(offset))
	w.u64(uint64(now))
	w.u32(uint32(len(states)))
	for _, st := range states {
		w.u32(uint32(len(st.key)))
		w.write([]byte(st.key))
		w.u32(uint32(len(st.value)))
		w.write(st.value)
	}
	info = saved{offset: offset, sources: len(states)}
	chunk := make([]entry, snapshotChunk)
	buf := make([]byte, 0, entrySize)
	for ctx.Err() == nil && w.err == nil {
		var n int
		s.mu.Lock()
		n, next = s.window.copyRange(next, chunk)
		s.mu.Unlock()
		w.u32(uint32(n))
		if n == 0 {
			break
		}
		info.ids += n
		for i := range chunk[:n] {
			w.write(chunk[i].append(buf))
		}
	}
	return changes, info
}

// load fills an empty store. After an error its content is undefined: reset it.
func (s *store) load(dir string) error {
	f, err := os.Open(snapshotPath(dir, s.partition))
	if errors.Is(err, fs.ErrNotExist) {
		return errNoSnapshot
	}
	if err != nil {
		return fmt.Errorf("load snapshot: %w", err)
	}
	defer f.Close()
	if err := s.read(newSnapshotReader(f)); err != nil {
		return fmt.Errorf("load snapshot: %w", err)
	}
	return nil
}

func (s *store) read(r *snapshotReader) error {
	if magic := r.read(len(snapshotMagic)); r.err == nil && string(magic) != snapshotMagic {
		return errors.New("the file is not a snapshot")
	}
	if v := r.u32(); r.err == nil && v != snapshotVersion {
		return fmt.Errorf("its version is %d; this program knows %d", v, snapshotVersion)
	}
	if p := r.u32(); r.err == nil && p != uint32(s.partition) {
		return fmt.Errorf("it is of partition %d", p)
	}
	copy(s.ids.events[:], r.read(16))
	copy(s.ids.table[:], r.read(16))
	s.offset = int64(r.u64())
	now := int64(r.u64())
	for n := r.u32(); n > 0 && r.err == nil; n-- {
		key := string(r.read(int(r.u32())))
		value := r.read(int(r.u32()))
		if r.err != nil {
			break
		}
		state, err := stream.DecodeState(value)
		if err != nil {
			return fmt.Errorf("state of a source: %w", err)
		}
		s.put(key, state, table.VersionOf(state))
	}
	for n := r.u32(); n > 0 && r.err == nil; n = r.u32() {
		for ; n > 0 && r.err == nil; n-- {
			if b := r.read(entrySize); r.err == nil {
				s.window.add(decodeEntry(b))
			}
		}
	}
	s.window.advance(now)
	return r.finish()
}

func (e *entry) append(b []byte) []byte {
	b = append(b, e.id[:]...)
	b = binary.BigEndian.AppendUint64(b, e.fingerprint)
	b = binary.BigEndian.AppendUint64(b, uint64(e.first.offset))
	b = binary.BigEndian.AppendUint32(b, e.first.index)
	b = binary.BigEndian.AppendUint64(b, uint64(e.at))
	return append(b, e.enrichment[:]...)
}

func decodeEntry(b []byte) (e entry) {
	copy(e.id[:], b)
	e.fingerprint = binary.BigEndian.Uint64(b[16:])
	e.first = slot{int64(binary.BigEndian.Uint64(b[24:])), binary.BigEndian.Uint32(b[32:])}
	e.at = int64(binary.BigEndian.Uint64(b[36:]))
	copy(e.enrichment[:], b[44:])
	return e
}

// snapshotWriter writes and sums up; the first error stays.
type snapshotWriter struct {
	w   *bufio.Writer
	sum hash.Hash32
	n   int64
	err error
}

func newSnapshotWriter(w io.Writer) *snapshotWriter {
	sum := crc32.New(castagnoli)
	return &snapshotWriter{w: bufio.NewWriterSize(io.MultiWriter(w, sum), 256<<10), sum: sum}
}

func (w *snapshotWriter) write(b []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(b)
		w.n += int64(len(b))
	}
}

func (w *snapshotWriter) u32(v uint32) { w.write(binary.BigEndian.AppendUint32(nil, v)) }
func (w *snapshotWriter) u64(v uint64) { w.write(binary.BigEndian.AppendUint64(nil, v)) }

// finish appends the checksum.
func (w *snapshotWriter) finish() error {
	if w.err == nil {
		w.err = w.w.Flush()
	}
	w.u32(w.sum.Sum32())
	if w.err == nil {
		w.err = w.w.Flush()
	}
	return w.err
}

// snapshotReader reads and sums up; the first error stays. What it returns is valid until the next call, but for
// parts of more than 60 bytes, which are new.
type snapshotReader struct {
	r   *bufio.Reader
	sum uint32
	buf [64]byte
	err error
}

func newSnapshotReader(r io.Reader) *snapshotReader {
	return &snapshotReader{r: bufio.NewReaderSize(r, 256<<10)}
}

func (r *snapshotReader) read(n int) []byte {
	if r.err == nil && (n < 0 || n > maxSnapshotItem) {
		r.err = errors.New("it is damaged: a part is too long")
	}
	if r.err != nil {
		return nil
	}
	b := r.buf[:min(n, len(r.buf))]
	if n > len(r.buf) {
		b = make([]byte, n)
	}
	if _, r.err = io.ReadFull(r.r, b); r.err != nil {
		return nil
	}
	r.sum = crc32.Update(r.sum, castagnoli, b)
	return b
}

func (r *snapshotReader) u32() uint32 {
	if b := r.read(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *snapshotReader) u64() uint64 {
	if b := r.read(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// finish compares the checksum.
func (r *snapshotReader) finish() error {
	want := r.sum
	if got := r.u32(); r.err == nil && got != want {
		return errors.New("it is damaged: the checksum does not match")
	}
	return r.err
}
