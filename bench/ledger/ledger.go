// Package ledger keeps what a generator meant to send and what was acknowledged, on disk (fsync)
// before the generator goes on: an acknowledgement that is in the ledger was given, whatever crashed
// since. One file, entries of 49 bytes: 'I' (intent) or 'A' (acknowledged), id, SHA-256 of the content.
package ledger

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"google.golang.org/protobuf/proto"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Entry is one event in the ledger.
type Entry struct {
	ID   [16]byte
	Hash [sha256.Size]byte
}

const size = 1 + 16 + sha256.Size

// Hash is SHA-256 of the deterministic encoding of what the producer said. It shares nothing with the
// service's own canonical form.
func Hash(e *audittrailv1.Event) ([sha256.Size]byte, error) {
	c := proto.CloneOf(e)
	c.Id, c.ReceivedAt, c.Principal, c.Enrichment, c.Position = "", nil, "", nil, nil
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("encode event: %w", err)
	}
	return sha256.Sum256(b), nil
}

// Ledger is an open ledger. Its methods may be called from several goroutines.
type Ledger struct {
	mu   sync.Mutex
	file *os.File
}

// Create starts an empty ledger.
func Create(path string) (*Ledger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create ledger: %w", err)
	}
	return &Ledger{file: f}, nil
}

// Intend records that entries are about to be sent.
func (l *Ledger) Intend(entries []Entry) error { return l.append('I', entries) }

// Acknowledge records that entries were acknowledged.
func (l *Ledger) Acknowledge(entries []Entry) error { return l.append('A', entries) }

func (l *Ledger) append(kind byte, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	b := make([]byte, 0, size*len(entries))
	for _, e := range entries {
		b = append(append(append(b, kind), e.ID[:]...), e.Hash[:]...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.file.Write(b); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("sync ledger: %w", err)
	}
	return nil
}

// Close closes the file.
func (l *Ledger) Close() error { return l.file.Close() }

// State is what the ledger knows of one id.
type State struct {
	Hash  [sha256.Size]byte
	Acked bool
}

// Read reads a ledger: every id that was ever meant to be sent. A last entry that was cut off by a
// crash of the generator is left out.
func Read(path string) (map[[16]byte]State, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	states := map[[16]byte]State{}
	var entry [size]byte
	for {
		if _, err := io.ReadFull(r, entry[:]); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return states, nil
		} else if err != nil {
			return nil, fmt.Errorf("read ledger: %w", err)
		}
		id, hash := [16]byte(entry[1:17]), [sha256.Size]byte(entry[17:])
		s, known := states[id]
		if known && s.Hash != hash {
			return nil, fmt.Errorf("ledger: id %x stands with two contents: the generator is wrong", id)
		}
		states[id] = State{Hash: hash, Acked: s.Acked || entry[0] == 'A'}
	}
}
