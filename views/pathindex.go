package views

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// pathIndex holds the paths of all sources. A listing sorts them when new ones have come: sources come seldom.
type pathIndex struct {
	mu     sync.Mutex
	paths  map[string]struct{}
	sorted []string // nil: to be made
}

func newPathIndex() *pathIndex { return &pathIndex{paths: make(map[string]struct{})} }

func (i *pathIndex) add(path string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.paths[path]; !ok {
		i.paths[path] = struct{}{}
		i.sorted = nil
	}
}

// list returns up to n paths that begin with prefix and are greater than after, in their order.
func (i *pathIndex) list(prefix, after string, n int) []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.sorted == nil {
		i.sorted = slices.Sorted(maps.Keys(i.paths))
	}
	first, _ := slices.BinarySearch(i.sorted, max(prefix, after))
	var out []string
	for _, path := range i.sorted[first:] {
		if len(out) == n || !strings.HasPrefix(path, prefix) {
			break
		}
		if path != after {
			out = append(out, path)
		}
	}
	return out
}
