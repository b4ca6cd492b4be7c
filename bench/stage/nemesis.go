package stage

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"
)

// Victim is something that can be killed and started again.
type Victim struct {
	Name  string
	Kill  func()
	Start func() error
}

// VictimOf makes a process a victim.
func VictimOf(p *Process) Victim { return Victim{Name: p.Name(), Kill: p.Kill9, Start: p.Start} }

// Nemesis kills victims at random moments until each was killed often enough.
type Nemesis struct {
	Victims []Victim
	Times   int           // kills of each victim
	Pause   time.Duration // between a start and the next kill, on average; varies from 0 to twice that
	Down    time.Duration // from a kill to the start, on average; varies from 0 to twice that
	Seed    uint64
	Log     func(format string, args ...any)

	mu    sync.Mutex
	kills map[string]int
}

// Run kills one victim after the other, in random order. The order and the pauses follow from the seed;
// what a victim is doing at that moment does not.
func (n *Nemesis) Run(ctx context.Context) error {
	r := rand.New(rand.NewPCG(n.Seed, 1))
	n.kills = map[string]int{}
	for round := range n.Times {
		for _, i := range r.Perm(len(n.Victims)) {
			v := n.Victims[i]
			if !sleep(ctx, jitter(r, n.Pause)) {
				return context.Cause(ctx)
			}
			v.Kill()
			n.mu.Lock()
			n.kills[v.Name]++
			n.mu.Unlock()
			down := jitter(r, n.Down)
			n.Log("round %d of %d: killed %s, down for %s", round+1, n.Times, v.Name, down.Round(time.Millisecond))
			if !sleep(ctx, down) {
				return context.Cause(ctx)
			}
			if err := v.Start(); err != nil {
				return fmt.Errorf("after kill %d: %w", round+1, err)
			}
		}
	}
	return nil
}

// Kills is how often each victim was killed.
func (n *Nemesis) Kills() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.kills)
}

func jitter(r *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(r.Float64() * 2 * float64(mean))
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
