package table

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// ActorSize is the length of one entry of the field actors.
const ActorSize = 8 + 2

// Actors is the field actors: the actors a source has seen, latest last, at most MaxActors. Encoded:
// hash (uint64, big endian), failures in a row (uint16, big endian).
type Actors []byte

// ActorHash is what Actors knows an actor by.
func ActorHash(kind, id string) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(kind)
	_, _ = d.Write([]byte{0})
	_, _ = d.WriteString(id)
	return d.Sum64()
}

// Len is the number of actors.
func (a Actors) Len() int { return len(a) / ActorSize }

// Failures returns how many events of the actor failed in a row, and whether the actor is known.
func (a Actors) Failures(hash uint64) (n uint16, known bool) {
	if i := a.find(hash); i >= 0 {
		return binary.BigEndian.Uint16(a[i+8:]), true
	}
	return 0, false
}

// Put notes the actor as the latest one, in place where there is room, and returns the result. It changes
// the memory of a.
func (a Actors) Put(hash uint64, failures uint16) Actors {
	a = a[:a.Len()*ActorSize]
	switch i := a.find(hash); {
	case i >= 0:
		a = append(a[:i], a[i+ActorSize:]...)
	case a.Len() >= MaxActors:
		a = append(a[:0], a[(a.Len()-MaxActors+1)*ActorSize:]...)
	}
	a = binary.BigEndian.AppendUint64(a, hash)
	return binary.BigEndian.AppendUint16(a, failures)
}

// find searches from the latest on: the next event is often of the same actor.
func (a Actors) find(hash uint64) int {
	for i := (a.Len() - 1) * ActorSize; i >= 0; i -= ActorSize {
		if binary.BigEndian.Uint64(a[i:]) == hash {
			return i
		}
	}
	return -1
}
