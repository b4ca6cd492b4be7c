package table

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/storage"

	"github.com/maxviazov/audittrail/proto/stream"
)

// Update is goka's update callback for views of the table: it merges by Replaces, and keeps without the
// accepted ids. What does not decode is left out: it is not a value of the table, and a view that stops at
// it would be gone for good.
func Update(_ goka.UpdateContext, s storage.Storage, key string, value []byte) error {
	if value == nil {
		return s.Delete(key)
	}
	next, err := stream.DecodeState(value)
	if err != nil {
		return nil
	}
	old, err := s.Get(key)
	if err != nil {
		return err
	}
	if old != nil {
		if cur, err := stream.DecodeState(old); err == nil && !Replaces(VersionOf(cur), VersionOf(next), [16]byte{}) {
			return nil
		}
	}
	next.Accepted = nil
	return s.Set(key, stream.EncodeState(next))
}

// Storage keeps a table in memory. It is safe for concurrent use. Its content goes with it: goka reads the
// topic again from its start.
type Storage struct {
	mu     sync.RWMutex
	values map[string][]byte
	offset *int64
}

// NewStorage returns an empty storage.
func NewStorage() *Storage { return &Storage{values: make(map[string][]byte)} }

// StorageBuilder is a storage.Builder of empty storages, for joins and views of small tables.
func StorageBuilder(string, int32) (storage.Storage, error) { return NewStorage(), nil }

// Open implements storage.Storage.
func (s *Storage) Open() error { return nil }

// Close implements storage.Storage.
func (s *Storage) Close() error { return nil }

// MarkRecovered implements storage.Storage.
func (s *Storage) MarkRecovered() error { return nil }

// Has implements storage.Storage.
func (s *Storage) Has(key string) (bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.values[key]
	return ok, nil
}

// Get implements storage.Storage.
func (s *Storage) Get(key string) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.values[key], nil
}

// Set implements storage.Storage.
func (s *Storage) Set(key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = value
	return nil
}

// Delete implements storage.Storage.
func (s *Storage) Delete(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.values, key)
	return nil
}

// GetOffset implements storage.Storage.
func (s *Storage) GetOffset(def int64) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.offset == nil {
		return def, nil
	}
	return *s.offset, nil
}

// SetOffset implements storage.Storage.
func (s *Storage) SetOffset(offset int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset = &offset
	return nil
}

// Iterator implements storage.Storage.
func (s *Storage) Iterator() (storage.Iterator, error) { return s.IteratorWithRange(nil, nil) }

// IteratorWithRange implements storage.Storage: keys in [start, limit), or those that begin with start when
// there is no limit, as goka's own storage does.
func (s *Storage) IteratorWithRange(start, limit []byte) (storage.Iterator, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return NewIterator(s.values, start, limit), nil
}

// NewIterator iterates over values, which it copies first, in the order of keys.
func NewIterator(values map[string][]byte, start, limit []byte) storage.Iterator {
	from, to := string(start), string(limit)
	in := func(key string) bool {
		if to == "" {
			return strings.HasPrefix(key, from)
		}
		return from <= key && key < to
	}
	it := &iterator{values: make(map[string][]byte), at: -1}
	for k, v := range values {
		if in(k) {
			it.values[k] = v
		}
	}
	it.keys = slices.Sorted(maps.Keys(it.values))
	return it
}

type iterator struct {
	keys   []string
	values map[string][]byte
	at     int
}

func (i *iterator) Next() bool             { i.at++; return i.at < len(i.keys) }
func (i *iterator) Err() error             { return nil }
func (i *iterator) Key() []byte            { return []byte(i.keys[i.at]) }
func (i *iterator) Value() ([]byte, error) { return i.values[i.keys[i.at]], nil }
func (i *iterator) Release()               {}

// Seek places the iterator before the first key that is not below key.
func (i *iterator) Seek(key []byte) bool {
	n, _ := slices.BinarySearch(i.keys, string(key))
	i.at = n - 1
	return n < len(i.keys)
}
