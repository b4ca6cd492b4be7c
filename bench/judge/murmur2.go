package judge

import "encoding/binary"

// partitionOf is the partition Kafka's Java client chooses for a key. Written from the description of
// MurmurHash2 (A. Appleby, 32 bits, seed 0x9747b28c), not with the service's code.
func partitionOf(key string, partitions int32) int32 {
	const m, r = uint32(0x5bd1e995), 24
	b := []byte(key)
	h := uint32(0x9747b28c) ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := binary.LittleEndian.Uint32(b) * m
		h = h*m ^ (k^k>>r)*m
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(b[0])) * m
	}
	h = (h ^ h>>13) * m
	h ^= h >> 15
	return int32(h&0x7fffffff) % partitions
}
