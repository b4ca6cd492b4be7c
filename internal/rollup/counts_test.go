package rollup

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestAppendEach: what is encoded is decoded again, sorted and summed, for days before 1970 and odd outcomes too.
func TestAppendEach(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		day := int16(rng.IntN(1<<16) - 1<<15)
		minute := (int32(day) + firstDay) * minutesPerDay
		cells := make([]Cell, 1+rng.IntN(256))
		total := int32(0)
		for i := range cells {
			cells[i] = Cell{Minute: minute + rng.Int32N(minutesPerDay), Source: rng.Int32N(1 << rng.IntN(31)), Action: rng.Int32N(5), Count: 1 + rng.Int32N(3),
				Outcome: int16(rng.IntN(1<<(1+rng.IntN(15))) - 1)}
			total += cells[i].Count
		}
		want := Sum(slices.Clone(cells))
		for i := 1; i < len(want); i++ {
			if compare(want[i-1], want[i]) >= 0 {
				t.Fatalf("%v is not before %v", want[i-1], want[i])
			}
		}
		var have []Cell
		sum := int32(0)
		if err := Each(day, Append(nil, want), func(c Cell) { have, sum = append(have, c), sum+c.Count }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(have, want) || sum != total {
			t.Fatalf("have %v (%d events), want %v (%d)", have, sum, want, total)
		}
		if d := have[0].Day(); d != day {
			t.Fatalf("day %d, want %d", d, day)
		}
	}
}

// TestGolden holds the bytes of a row: they are stored.
func TestGolden(t *testing.T) {
	at := time.Date(2026, 11, 24, 13, 57, 30, 0, time.UTC)
	m := MinuteOf(at.UnixMilli())
	cells := []Cell{{m, 7, 3, 2, 1}, {m, 7, 4, 1, 9}, {m + 1, 2, 1, 300, 0}}
	if (&cells[0]).Day() != int16(at.Unix()/86400-firstDay) {
		t.Errorf("day %d", cells[0].Day())
	}
	if have, want := hex.EncodeToString(Append(nil, cells)), "01c5060e06090000020712010905d812"; have != want {
		t.Errorf("%s, want %s", have, want)
	}
}

func TestMalformed(t *testing.T) {
	whole := Append(nil, []Cell{{100, 300, 3, 2, 1}})
	for n := range len(whole) {
		if n == 1 {
			continue // no cells
		}
		if err := Each(0, whole[:n], func(Cell) {}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%x: %v", whole[:n], err)
		}
	}
	if err := Each(0, bytes.Replace(whole, []byte{1}, []byte{2}, 1), func(Cell) {}); !errors.Is(err, ErrMalformed) {
		t.Error("a newer version is read:", err)
	}
}

func FuzzEach(f *testing.F) {
	f.Add(Append(nil, []Cell{{100, 300, 3, 2, 1}, {101, 1, 3, 2, 1}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		if err := Each(0, data, func(Cell) { n++ }); err == nil && 4*n > len(data) {
			t.Errorf("%d cells from %d bytes", n, len(data))
		}
	})
}

func TestMinuteOf(t *testing.T) {
	for ms, want := range map[int64]int32{0: 0, 59_999: 0, 60_000: 1, -1: -1, -60_000: -1, -60_001: -2, 1 << 60: maxMinute, -1 << 60: minMinute} {
		if have := MinuteOf(ms); have != want {
			t.Errorf("%d ms: %d, want %d", ms, have, want)
		}
	}
}
