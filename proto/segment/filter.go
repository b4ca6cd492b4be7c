package segment

import "math/bits"

const (
	bitsPerTerm = 16
	probes      = 11
	minFilter   = 64
	// MaxFilter is the greatest size of a filter in bytes: 1,024 terms at 16 bits. With more terms it says "may contain" more often.
	MaxFilter = 2048
	// minRecords: below it decoding the entries is as cheap as a filter.
	minRecords = 32
)

// Filter is the Bloom filter of the terms of a segment, a power of two of bytes. Term t is in it when for each i of 0..10 the bit
//
//	(low 32 bits of t + i * (high 32 bits of t | 1)) mod 2^32, modulo the number of bits
//
// is set; bit b is bit b%8 (least significant first) of byte b/8. An absent filter (NULL) may contain everything.
type Filter []byte

// MayContain says whether the segment may hold the term.
func (f Filter) MayContain(term uint64) bool {
	if len(f) == 0 || len(f)&(len(f)-1) != 0 {
		return true // none, or not one of ours
	}
	h, step, mask := uint32(term), uint32(term>>32)|1, uint32(len(f)*8-1)
	for range probes {
		if f[h&mask>>3]&(1<<(h&7)) == 0 {
			return false
		}
		h += step
	}
	return true
}

func (f Filter) add(term uint64) {
	h, step, mask := uint32(term), uint32(term>>32)|1, uint32(len(f)*8-1)
	for range probes {
		f[h&mask>>3] |= 1 << (h & 7)
		h += step
	}
}

// FilterBuilder collects the distinct terms of a segment. The zero value is ready; not for concurrent use.
type FilterBuilder struct {
	set   []uint64 // open addressing, 0 is free
	terms []uint64
	zero  bool // the term 0 itself was added
}

// Add adds terms; those that were added before are ignored.
func (b *FilterBuilder) Add(terms ...uint64) {
	for _, t := range terms {
		b.add(t)
	}
}

func (b *FilterBuilder) add(term uint64) {
	if term == 0 {
		if !b.zero {
			b.zero = true
			b.terms = append(b.terms, 0)
		}
		return
	}
	if 2*len(b.terms) >= len(b.set) {
		b.grow()
	}
	mask := uint64(len(b.set) - 1)
	for i := term & mask; ; i = (i + 1) & mask {
		switch b.set[i] {
		case term:
			return
		case 0:
			b.set[i] = term
			b.terms = append(b.terms, term)
			return
		}
	}
}

func (b *FilterBuilder) grow() {
	b.set = make([]uint64, max(4096, 2*len(b.set)))
	mask := uint64(len(b.set) - 1)
	for _, term := range b.terms {
		if term == 0 {
			continue
		}
		i := term & mask
		for b.set[i] != 0 {
			i = (i + 1) & mask
		}
		b.set[i] = term
	}
}

// Append appends the filter of the terms added since the last Append, and forgets them. records is the number of records they came
// from; under 32 there is no filter.
func (b *FilterBuilder) Append(dst []byte, records int) []byte {
	if records >= minRecords {
		start := len(dst)
		dst = append(dst, make([]byte, filterSize(len(b.terms)))...)
		f := Filter(dst[start:])
		for _, term := range b.terms {
			f.add(term)
		}
	}
	clear(b.set)
	b.terms, b.zero = b.terms[:0], false
	return dst
}

// BuildFilter is the filter of a list of terms; nil when they come from fewer than 32 records.
func BuildFilter(terms []uint64, records int) Filter {
	var b FilterBuilder
	b.Add(terms...)
	return b.Append(nil, records)
}

func filterSize(terms int) int {
	need := max(minFilter, min(MaxFilter, terms*bitsPerTerm/8))
	return 1 << bits.Len(uint(need-1))
}
