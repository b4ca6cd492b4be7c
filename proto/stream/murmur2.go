package stream

import (
	"encoding/binary"
	"hash"
)

// Murmur2 returns the hash by which Kafka's Java client and librdkafka choose a key's partition
// (org.apache.kafka.common.utils.Utils.murmur2), masked to 31 bits as they mask it.
//
// Goka's default, FNV, puts most keys elsewhere than other clients do: state and events of a source would live in different
// partitions. Its unmasked sign also panics a view for one value in 2^32.
func Murmur2(data []byte) int32 {
	const (
		seed = uint32(0x9747b28c)
		m    = uint32(0x5bd1e995)
		r    = 24
	)
	h := seed ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := binary.LittleEndian.Uint32(data)
		k *= m
		k ^= k >> r
		k *= m
		h *= m
		h ^= k
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(data[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return int32(h & 0x7fffffff)
}

// Partition returns the partition of a key among n. It panics when n is not positive.
func Partition(key string, n int32) int32 { return Murmur2([]byte(key)) % n }

// NewHasher returns Murmur2 as goka wants it. Murmur2 mixes in the length first, so the data is gathered and hashed in Sum32.
func NewHasher() hash.Hash32 { return &hasher{} }

type hasher struct{ data []byte }

func (h *hasher) Write(p []byte) (int, error) { h.data = append(h.data, p...); return len(p), nil }
func (h *hasher) Sum32() uint32               { return uint32(Murmur2(h.data)) }
func (h *hasher) Reset()                      { h.data = h.data[:0] }
func (h *hasher) Size() int                   { return 4 }
func (h *hasher) BlockSize() int              { return 4 }
func (h *hasher) Sum(b []byte) []byte         { return binary.BigEndian.AppendUint32(b, h.Sum32()) }
