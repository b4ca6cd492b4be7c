package views

// grouping cuts candidates into groups whose bundles are read together: few when one bundle is likely to fill the page, more
// while few candidates are accepted; never more than fit into a bounded memory.
type grouping struct {
	bundles int     // how many a group may touch
	rate    float64 // of candidates that were accepted lately
}

const (
	firstGroup = 4
	lastGroup  = 64
	groupBytes = 16 << 20 // decoded; the first group may be of 4 of the greatest bundles, 64 MiB
)

// newGrouping begins a step; exact when every candidate will be accepted.
func newGrouping(exact bool) *grouping {
	g := &grouping{bundles: firstGroup, rate: 0.5}
	if exact {
		g.rate = 1
	}
	return g
}

// cut takes the first candidates: enough to find those that are wanted, as far as the rate tells, and their bundles.
func (g *grouping) cut(found []location, wanted int) ([]location, []address) {
	most := int(float64(wanted)/max(g.rate, 0.001)) + 1
	seen := make(map[bundleKey]bool, g.bundles)
	var want []address
	for i, l := range found {
		a := l.address()
		if !seen[a.bundleKey] {
			if len(want) == g.bundles {
				return found[:i], want
			}
			seen[a.bundleKey] = true
			want = append(want, a)
		}
		if i+1 == most {
			return found[:i+1], want
		}
	}
	return found, want
}

// learn adapts the next group to what the last one was like.
func (g *grouping) learn(bundles map[bundleKey]*bundle, accepted, looked int) {
	var bytes int64
	for _, b := range bundles {
		bytes += b.bytes()
	}
	mean := max(bytes/int64(max(len(bundles), 1)), 1)
	g.bundles = int(max(1, min(int64(2*g.bundles), lastGroup, groupBytes/mean)))
	g.rate = float64(accepted) / float64(max(looked, 1))
}
