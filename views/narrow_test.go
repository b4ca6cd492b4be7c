package views

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
	"github.com/maxviazov/audittrail/views/viewstest"
)

// admits says whether a narrowing lets an event through, as SQL and segment filters would.
func (a narrowing) admits(e *audittrailv1.Event) bool {
	low, high := a.bounds()
	id := event.IDOf(e)
	fits := func(p patterns, value string) bool {
		for _, alternatives := range p {
			if !slices.ContainsFunc(alternatives, func(a pattern) bool {
				return value == a.text || a.prefix && strings.HasPrefix(value, a.text)
			}) {
				return false
			}
		}
		return true
	}
	hashes, _ := segment.AppendTerms(nil, nil, e)
	return !a.empty() && id.Compare(low) >= 0 && (high == nil || id.Compare(*high) < 0) && fits(a.sources, e.GetSource()) &&
		fits(a.actions, e.GetAction()) && a.outcomes&(1<<e.GetOutcome()) != 0 && a.terms.admits(segment.BuildFilter(hashes, 32))
}

// TestNarrowingAdmitsWhatTheFilterAccepts holds the one thing a narrowing must never do: rule out an event that is accepted. And that it
// is good for something: that it rules out a good part of the others.
func TestNarrowingAdmitsWhatTheFilterAccepts(t *testing.T) {
	gen := viewstest.NewGenerator(7, time.Now(), time.Hour)
	events := gen.Events(150)
	ruledOut, refused := 0, 0
	for i := range 800 {
		text := gen.Filter(4)
		if i%3 == 0 { // times that meet those of events, to the nanosecond and to the millisecond
			at := events[gen.IntN(len(events))].GetOccurredAt().AsTime()
			if gen.IntN(2) == 0 {
				at = at.Truncate(time.Millisecond)
			}
			op := gen.Pick([]string{"<", "<=", ">", ">=", "=", "!="})
			text = gen.Pick([]string{"", "NOT "}) + fmt.Sprintf("occurred_at %s %q", op, at.Format(time.RFC3339Nano))
		}
		f, err := ParseFilter(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		n := narrow(f)
		for _, e := range events {
			switch {
			case f.Match(e) && !n.admits(e):
				t.Fatalf("filter %s accepts %v, its narrowing %+v does not", text, e, n)
			case !f.Match(e):
				refused++
				if !n.admits(e) {
					ruledOut++
				}
			}
		}
	}
	if ruledOut < refused/3 {
		t.Errorf("of %d refused events only %d are ruled out beforehand", refused, ruledOut)
	}
	t.Logf("of %d refused events %d are ruled out beforehand", refused, ruledOut)
}

func TestNarrowingOfTimes(t *testing.T) {
	at := time.Date(2026, 1, 31, 12, 0, 0, 500_000, time.UTC) // half a millisecond
	ms := at.UnixMilli()
	for filter, want := range map[string][2]int64{
		`occurred_at >= %q AND occurred_at <= %[1]q`:    {ms, ms},
		`occurred_at = %q`:                              {ms, ms},
		`NOT (occurred_at < %q OR occurred_at > %[1]q)`: {ms, ms},
	} {
		f, err := ParseFilter(fmt.Sprintf(filter, at.Format(time.RFC3339Nano)))
		if err != nil {
			t.Fatal(err)
		}
		if n := narrow(f); n.from != want[0] || n.to != want[1] {
			t.Errorf("%s: %d to %d, want %v", f, n.from, n.to, want)
		}
		if !f.Match(&audittrailv1.Event{OccurredAt: timestamppb.New(at)}) {
			t.Errorf("%s refuses its own time", f)
		}
	}
	for _, impossible := range []string{
		`occurred_at > "2026-01-02T00:00:00Z" AND occurred_at < "2026-01-01T00:00:00Z"`,
		`outcome = denied AND outcome = success`,
	} {
		f, err := ParseFilter(impossible)
		if err != nil {
			t.Fatal(err)
		}
		if !narrow(f).empty() {
			t.Errorf("%s is not known to be impossible", impossible)
		}
	}
}

func TestTermsBeyondSQL(t *testing.T) {
	for filter, want := range map[string]int{
		`source = "a" AND action = "b" AND outcome = denied`: 0,
		`(source = "a" OR source = "b") AND actor.id = "x"`:  1,
		`source = "a" OR actor.id = "x"`:                     1, // SQL cannot tell
		`NOT actor.id = "x"`:                                 0,
		`actor.id : "x*"`:                                    0, // no term for a prefix
		`source : "acme/pay*"`:                               0,
		`kind = read AND context.trace_id = "t"`:             2,
	} {
		f, err := ParseFilter(filter)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(narrow(f).terms.beyondSQL()); got != want {
			t.Errorf("%s: %d terms to ask segments for, want %d", filter, got, want)
		}
	}
}

func TestListCursorSurvivesItsToken(t *testing.T) {
	c := cursor{now: time.Now().UTC(), begun: true, at: greatestID, sizes: sizes{0, 1, 1 << 40}}
	got, err := decodeCursor(c.encode())
	if err != nil || got.at != c.at || !got.now.Equal(c.now) || !slices.Equal(got.sizes, c.sizes) {
		t.Errorf("got %v, %v", got, err)
	}
	for n := range len(c.encode()) {
		if _, err := decodeCursor(c.encode()[:n]); err == nil {
			t.Errorf("%d bytes of it are taken for one", n)
		}
	}
	if _, err := decodeCursor(append(c.encode(), 0)); err == nil {
		t.Error("a longer one is taken for one")
	}
	if s := (sizes{3}); s.of(0) != 3 || s.of(1) != 0 {
		t.Error("sizes of logs")
	}
}

func TestSuccessor(t *testing.T) {
	if got := successor(event.ID{15: 0xff}); got != (event.ID{14: 1}) {
		t.Errorf("got %x", got)
	}
}

func TestTokensAreBound(t *testing.T) {
	a, b := tokens{key: [32]byte{1}}, tokens{key: [32]byte{2}}
	token := a.seal(walkList, []byte("payload"), "filter", "principal")
	if got, err := a.open(walkList, token, "filter", "principal"); err != nil || string(got) != "payload" {
		t.Fatalf("%q, %v", got, err)
	}
	flipped := []byte(token)
	flipped[5] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"another key":       func() ([]byte, error) { return b.open(walkList, token, "filter", "principal") },
		"another walk":      func() ([]byte, error) { return a.open(walkTail, token, "filter", "principal") },
		"another filter":    func() ([]byte, error) { return a.open(walkList, token, "filte", "rprincipal") },
		"another principal": func() ([]byte, error) { return a.open(walkList, token, "filter", "other") },
		"a changed token":   func() ([]byte, error) { return a.open(walkList, string(flipped), "filter", "principal") },
		"a cut token":       func() ([]byte, error) { return a.open(walkList, token[:len(token)-2], "filter", "principal") },
		"nothing":           func() ([]byte, error) { return a.open(walkList, "", "filter", "principal") },
	} {
		if got, err := open(); err == nil {
			t.Errorf("%s: opened to %q", name, got)
		}
	}
}

func TestLRUStaysWithinItsBudget(t *testing.T) {
	c := newLRU[int, string](10 * (100 + entryOverhead))
	for i := range 30 {
		c.put(i, "v", 100)
		c.get(0) // used all the time
	}
	if _, ok := c.get(0); !ok {
		t.Error("what was used last is gone")
	}
	if _, ok := c.get(5); ok {
		t.Error("what was used longest ago is there")
	}
	c.put(1000, "too large", c.budget)
	c.put(0, "w", 50)
	if v, _ := c.get(0); v != "w" || c.size() > c.budget || len(c.items) != c.order.Len() {
		t.Errorf("%q, %d of %d bytes, %d items", v, c.size(), c.budget, len(c.items))
	}
}

func TestCursorOfAWalkByBundlesSurvivesItsToken(t *testing.T) {
	c := cursor{now: time.Now().UTC(), begun: true, at: event.ID{1, 2}, sizes: sizes{7}, front: &front{opened: greatestID, waiting: []place{{0, 6}, {999, 1 << 40}}}}
	got, err := decodeCursor(c.encode())
	if err != nil || got.front == nil || got.front.opened != c.front.opened || !slices.Equal(got.front.waiting, c.front.waiting) || got.rows {
		t.Errorf("got %+v, %v", got, err)
	}
	for n := range len(c.encode()) {
		if _, err := decodeCursor(c.encode()[:n]); err == nil {
			t.Errorf("%d bytes of it are taken for one", n)
		}
	}
}

func TestTheNewestBundlesStayInMemory(t *testing.T) {
	c := newBundleCache(1<<20, newMetrics(prometheus.NewRegistry()))
	b := &bundle{entries: []segment.Entry{{Payload: make([]byte, 20_000)}}}
	for log := range int16(2) {
		for n := range int64(20) {
			c.put(bundleKey{log, 1000 + n}, b)
		}
	}
	for n := range int64(500) { // a search through old ones
		c.put(bundleKey{0, n}, b)
	}
	for log := range int16(2) {
		for n := int64(1019); n > 1010; n-- {
			if _, ok := c.get(bundleKey{log, n}); !ok {
				t.Errorf("bundle %d of log %d was driven out", n, log)
			}
		}
	}
	if size := c.newest.size() + c.others.size(); size > 1<<20 {
		t.Errorf("%d bytes", size)
	}
}
