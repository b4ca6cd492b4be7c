package termindex

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

type testBlock struct {
	first uint32
	data  []byte
}

func write(t testing.TB, segments uint32, content map[uint32][]uint32) (blocks []testBlock) {
	t.Helper()
	w := Writer{Segments: segments, Hashes: len(content), Block: func(first uint32, data []byte) error {
		blocks = append(blocks, testBlock{first, slices.Clone(data)})
		return nil
	}}
	for _, h := range slices.Sorted(maps.Keys(content)) {
		if err := w.Add(h, content[h]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	return blocks
}

// random is hashes with few and with many ordinals, evenly spread or not.
func random(rng *rand.Rand, segments uint32, n int) map[uint32][]uint32 {
	content := make(map[uint32][]uint32)
	shift := rng.IntN(20)
	for range n {
		h := rng.Uint32() >> shift
		if rng.IntN(50) == 0 {
			h = ^uint32(0) - h
		}
		count := 1
		if rng.IntN(3) == 0 {
			count = 1 + rng.IntN(int(segments))
		}
		set := make(map[uint32]bool)
		for range count {
			set[rng.Uint32N(segments)] = true
		}
		content[h] = slices.Sorted(maps.Keys(set))
	}
	return content
}

// TestBlocks: what was written is read again, in order and by hash, for runs of one segment and of thousands.
func TestBlocks(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		segments := 1 + rng.Uint32N(1<<rng.IntN(13))
		content := random(rng, segments, 1+rng.IntN(3000))
		blocks := write(t, segments, content)
		seen := 0
		var g Groups
		for i, b := range blocks {
			if g.Reset(b.first, b.data, segments); i > 0 && b.first <= blocks[i-1].first {
				t.Fatal("blocks are not ascending")
			}
			groups := 0
			for g.Next() {
				seen, groups = seen+1, groups+1
				if !slices.Equal(g.Ordinals, content[g.Hash]) {
					t.Fatalf("hash %x: %v, want %v", g.Hash, g.Ordinals, content[g.Hash])
				}
			}
			if g.Err() != nil {
				t.Fatal(g.Err())
			}
			if len(b.data) > blockSize && groups > 1 {
				t.Errorf("block of %d bytes and %d groups", len(b.data), groups)
			}
		}
		if seen != len(content) {
			t.Fatalf("%d hashes read, %d written", seen, len(content))
		}
		for range 200 {
			h := rng.Uint32()
			at, found := slices.BinarySearchFunc(blocks, h, func(b testBlock, h uint32) int { return int(int64(b.first) - int64(h)) })
			if !found {
				at--
			}
			if at < 0 {
				continue
			}
			g.Reset(blocks[at].first, blocks[at].data, segments)
			if _, want := content[h]; g.Find(h) != want {
				t.Fatalf("find %x: %v", h, !want)
			}
		}
	}
}

func FuzzGroups(f *testing.F) {
	for _, b := range write(f, 4096, map[uint32][]uint32{1: {1}, 2: {0, 1, 2, 4000}, 1 << 31: {9}}) {
		f.Add(b.first, b.data, uint32(4096))
	}
	f.Fuzz(func(t *testing.T, first uint32, data []byte, segments uint32) {
		segments = 1 + segments%(1<<20)
		var g Groups
		for g.Reset(first, data, segments); g.Next(); {
			if !slices.IsSorted(g.Ordinals) || g.Ordinals[len(g.Ordinals)-1] >= segments {
				t.Fatal(g.Ordinals)
			}
		}
		if g.Err() != nil && !errors.Is(g.Err(), ErrMalformed) {
			t.Fatal(g.Err())
		}
	})
}
