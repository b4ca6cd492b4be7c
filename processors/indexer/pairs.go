package indexer

import "slices"

// pairs collects (hash, ordinal) pairs of a run: hash<<32 | ordinal, by ascending ordinal.
type pairs struct {
	all, spare []uint64
	seen       []uint64 // open addressing; terms of the current segment, 0 is free
	used       []int32
}

// segment adds the terms of one segment, each once.
func (p *pairs) segment(ordinal uint32, terms []uint64) {
	size := 8192
	for size < 2*len(terms) {
		size *= 2
	}
	if len(p.seen) < size {
		p.seen, p.used = make([]uint64, size), p.used[:0]
	}
	mask := uint64(len(p.seen) - 1)
next:
	for _, t := range terms {
		t |= 1 // 0 is free; the lowest bit is not in the hash
		i := t >> 8 & mask
		for ; p.seen[i] != 0; i = (i + 1) & mask {
			if p.seen[i] == t {
				continue next
			}
		}
		p.seen[i] = t
		p.used = append(p.used, int32(i))
		p.all = append(p.all, t>>32<<32|uint64(ordinal))
	}
	for _, i := range p.used {
		p.seen[i] = 0
	}
	p.used = p.used[:0]
}

// sorted sorts by hash; the ordinals of a hash stay ascending, as a radix sort keeps the order of equal keys.
func (p *pairs) sorted() []uint64 {
	const bits, passes = 11, 3
	p.spare = slices.Grow(p.spare[:0], len(p.all))[:len(p.all)]
	for pass := range passes {
		shift := 32 + bits*pass
		var at [1 << bits]int
		for _, v := range p.all {
			at[v>>shift&(1<<bits-1)]++
		}
		sum := 0
		for i, n := range at {
			at[i] = sum
			sum += n
		}
		for _, v := range p.all {
			b := v >> shift & (1<<bits - 1)
			p.spare[at[b]] = v
			at[b]++
		}
		p.all, p.spare = p.spare, p.all
	}
	return p.all
}

// groups calls f for each hash with its ordinals.
func groups(sorted []uint64, f func(hash uint32, ordinals []uint32) error) error {
	var ordinals []uint32
	for i := 0; i < len(sorted); {
		hash := uint32(sorted[i] >> 32)
		ordinals = ordinals[:0]
		for ; i < len(sorted) && uint32(sorted[i]>>32) == hash; i++ {
			// Two terms of a segment may have the same hash.
			if o := uint32(sorted[i]); len(ordinals) == 0 || ordinals[len(ordinals)-1] != o {
				ordinals = append(ordinals, o)
			}
		}
		if err := f(hash, ordinals); err != nil {
			return err
		}
	}
	return nil
}

// hashes counts the different hashes.
func hashes(sorted []uint64) (n int) {
	for i := range sorted {
		if i == 0 || sorted[i]>>32 != sorted[i-1]>>32 {
			n++
		}
	}
	return n
}
