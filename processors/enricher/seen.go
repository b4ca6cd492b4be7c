package enricher

import (
	"encoding/binary"

	"github.com/maxviazov/audittrail/proto/event"
)

// seenSize is the number of places in inMessage: more than twice the events of a message, a power of two.
const seenSize = 1 << 10

// inMessage finds the events of one message that were accepted before, by id: a small open-addressing table
// that is emptied by moving on to the next generation.
type inMessage struct {
	on         bool
	generation uint32
	places     []place
}

type place struct {
	generation uint32
	kept       uint32 // index in decision.kept
}

// begin empties it, for a message of n events. One event has none before it.
func (s *inMessage) begin(n int) {
	if s.on = n > 1; !s.on {
		return
	}
	if s.places == nil {
		s.places = make([]place, seenSize)
	}
	s.generation++
	if s.generation == 0 { // after four billion messages
		clear(s.places)
		s.generation = 1
	}
}

func (s *inMessage) find(id event.ID, list []kept) *kept {
	if !s.on {
		return nil
	}
	for p := hashInMessage(&id); s.places[p].generation == s.generation; p = (p + 1) % seenSize {
		if k := &list[s.places[p].kept]; k.id == id {
			return k
		}
	}
	return nil
}

func (s *inMessage) put(id event.ID, kept int) {
	if !s.on {
		return
	}
	p := hashInMessage(&id)
	for s.places[p].generation == s.generation {
		p = (p + 1) % seenSize
	}
	s.places[p] = place{s.generation, uint32(kept)}
}

func hashInMessage(id *event.ID) uint32 { return binary.LittleEndian.Uint32(id[10:]) % seenSize }
