package sink

import (
	"crypto/sha256"
	"hash"

	"github.com/maxviazov/audittrail/proto/segment"
)

// nodeHasher computes inner nodes of the Merkle tree: SHA-256(0x01 ‖ left ‖ right), RFC 6962, section 2.1.
type nodeHasher struct{ sha hash.Hash }

// appendLeaf returns the frontier of a tree with one leaf more than size. Each one bit of size is a full subtree; the new leaf merges with those
// of the trailing ones, like a carry.
func (h *nodeHasher) appendLeaf(frontier []byte, size int64, leaf []byte) []byte {
	if h.sha == nil {
		h.sha = sha256.New()
	}
	frontier = append(frontier, leaf...)
	for ; size&1 == 1; size >>= 1 {
		pair := frontier[len(frontier)-2*segment.HashSize:]
		h.sha.Reset()
		h.sha.Write(nodePrefix)
		h.sha.Write(pair)
		frontier = h.sha.Sum(frontier[:len(frontier)-2*segment.HashSize])
	}
	return frontier
}

var nodePrefix = []byte{1}
