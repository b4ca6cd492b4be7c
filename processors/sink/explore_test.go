package sink

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	"github.com/maxviazov/audittrail/proto/segment"
	"github.com/maxviazov/audittrail/proto/stream"
)

// This is a model checker of the rules between enricher and sink: it goes through every order in which the steps of a small pipeline can happen,
// with crashes, a zombie, retention, emptied topics and a PostgreSQL that goes back, and looks at every state on the way. fold and missing are
// the sink's own; the enricher is a model (TestRandomCrashes drives the real one, without a real sink). In each state nothing may be lost, and from each
// state the pipeline must come to an end by itself, with all that can be stored stored: a wedge is a violation too.
//
// The input is a few messages of one partition: a letter is an event, equal letters are copies of one event, "." is a hole.

// rules are switched off one by one by TestExplorerNoticesEachRule.
type rules struct {
	seenBefore    bool // R6: drop whatever the window has
	overHole      bool // R4: an output begins at its own message
	commitsAhead  bool // R3: commit what was read, not what is written
	notCompared   bool // R11: the sink goes on where it was after PostgreSQL went back
	seeksToCommit bool // R10: and reads audit-records from where it was
	noRefill      bool // R21
}

// budget is how often each thing may go wrong.
type budget struct{ crashes, zombies, retention, emptied, rollbacks int8 }

// explored is one state of the pipeline.
type explored struct {
	budget
	start, commit int64      // of audit-events; of the enrichers' group
	log           []*written // audit-records
	first         int        // of them that is still there
	table         [2]int8    // where the first copy of each event stands, as the table has it; slot number or -1
	members       [2]member
	pg, backup    stored
	mind          stored // the sink's memory, when it does not compare it
}

// member is an enricher; the second one is a zombie.
type member struct {
	alive    bool
	next     int64 // first offset that no output of this session covers
	pending  *written
	window   [2]int8
	unsure   int64
	finished int64 // where the messages that are written end
}

// written is an output, and what distinguishes it.
type written struct {
	output *pipelinev1.RecordBatch
	text   string
}

// stored is what PostgreSQL has.
type stored struct {
	valid    bool
	next     slot
	position int64
	gaps     string // spans, as text: states are compared
	events   uint8  // a bit for each letter
	lost     []span
}

func slotNumber(s slot) int8 { return int8(s.offset*4 + int64(s.index)) }
func numbered(n int8) slot   { return slot{int64(n / 4), uint32(n % 4)} }

func (s *explored) key() string {
	var b strings.Builder
	fmt.Fprint(&b, s.budget, s.start, s.commit, s.first, s.table)
	for _, m := range s.members {
		fmt.Fprint(&b, "|", m.alive, m.next, m.window, m.unsure, m.finished)
		if m.pending != nil {
			b.WriteString(m.pending.text)
		}
	}
	for _, w := range s.log {
		b.WriteString("\n" + w.text)
	}
	for _, p := range []stored{s.pg, s.backup, s.mind} {
		fmt.Fprint(&b, "|", p.valid, p.next, p.position, p.events, p.gaps)
	}
	return b.String()
}

type explorer struct {
	rules
	input []string
	wrong string
}

func (x *explorer) clone(s *explored) *explored {
	c := *s
	c.log = slices.Clip(s.log)
	return &c
}

// restart is where a session begins (R2): the commit, or the start of the log.
func (x *explorer) restart(s *explored, m *member, window [2]int8) {
	at := max(s.commit, s.start)
	*m = member{alive: true, next: at, window: window, finished: at}
}

// read decides about the next message of a member and writes the table; false when there is none.
func (x *explorer) read(s *explored, m *member) bool {
	at := max(m.next, s.start)
	for at < int64(len(x.input)) && x.input[at] == "." {
		at++
	}
	if !m.alive || m.pending != nil || at >= int64(len(x.input)) {
		return false
	}
	from := min(max(m.next, s.start), at)
	if x.overHole {
		from = at
	}
	o := &pipelinev1.RecordBatch{FromOffset: from, EndOffset: at + 1, Offset: at}
	for i, letter := range x.input[at] {
		id, own := letter-'A', slot{at, uint32(i)}
		first := m.window[id]
		known := first >= 0
		if known && (x.seenBefore || numbered(first).before(own) && (numbered(first).offset >= m.unsure || numbered(first).offset == at)) {
			f := numbered(first)
			o.Drops = append(o.Drops, &pipelinev1.Drop{Index: uint32(i), FirstOffset: f.offset, FirstIndex: f.index})
			continue
		}
		o.Records = append(o.Records, &pipelinev1.Record{Index: uint32(i)})
		// Of two slots the smaller one stays, here and in the table.
		for _, w := range []*[2]int8{&m.window, &s.table} {
			if w[id] < 0 || slotNumber(own) < w[id] {
				w[id] = slotNumber(own)
			}
		}
	}
	m.pending = &written{o, fmt.Sprint(from, at, o.Records, o.Drops)}
	m.next = at + 1
	return true
}

func (x *explorer) write(s *explored, m *member) bool {
	if !m.alive || m.pending == nil {
		return false
	}
	s.log = append(slices.Clip(s.log), m.pending)
	m.pending, m.finished = nil, m.next
	return true
}

func (x *explorer) commits(s *explored, m *member) bool {
	at := m.finished
	if x.commitsAhead {
		at = m.next
	}
	if at <= s.commit {
		return false
	}
	s.commit = at
	return true
}

// store is the sink taking one output in one transaction.
func (x *explorer) store(s *explored) bool {
	at := &s.pg
	if x.notCompared && s.mind.valid {
		// It overwrites the head with what it remembers; the rows are those of PostgreSQL.
		s.mind.events = s.pg.events
		at = &s.mind
	}
	at.position = max(at.position, int64(s.first))
	if at.position >= int64(len(s.log)) {
		return false
	}
	w := s.log[at.position]
	h := &head{next: at.next, position: at.position}
	for _, g := range at.lost {
		h.gaps.declare(g, new(gapRow))
	}
	var f folded
	h.fold(&item{offset: at.position, output: w.output, records: make([]scanned, len(w.output.Records))}, s.start, &f)
	for _, d := range f.decisions {
		switch {
		case d.kind == takeRecord:
			at.events |= 1 << (x.input[d.slot.offset][d.slot.index] - 'A') // the unique key: a second copy changes nothing
		case d.kind == takeGap && d.gap.reason == segment.GapExpiredInput && (slot{s.start, 0}).before(d.gap.end):
			x.blame("WASTE: %v to %v is declared lost, audit-events begins at %d", d.gap.from, d.gap.end, s.start)
		}
	}
	at.next, at.position, at.lost = h.next, h.position, h.gaps.spans()
	at.gaps = fmt.Sprint(at.lost)
	if x.notCompared && s.mind.valid {
		s.pg = s.mind
	}
	return true
}

// refill is what the sink asks for when it has read to the end, and the enricher does (R21).
func (x *explorer) refill(s *explored) bool {
	m := &s.members[0]
	if x.noRefill || max(s.pg.position, int64(s.first)) < int64(len(s.log)) || m.pending != nil {
		return false
	}
	at := seen{s.pg.next, s.pg.position}
	note := missing(at, at.next.before(slot{s.commit, 0}), s.pg.lost, s.start, s.commit)
	if note.Refill == stream.NoCommit || note.Refill >= m.next {
		return false
	}
	s.commit = max(note.Refill, s.start)
	unsure := note.Unsure
	if s.commit > note.Refill {
		unsure = max(unsure, s.commit)
	}
	x.restart(s, m, s.table)
	m.unsure = unsure
	return true
}

func (x *explorer) blame(format string, args ...any) {
	if x.wrong == "" {
		x.wrong = fmt.Sprintf(format, args...)
	}
}

// look checks what must hold in every state: an event whose slot is covered is stored, or the slot is in the gap ledger.
func (x *explorer) look(s *explored) {
	for offset, message := range x.input {
		for i := range message {
			at := slot{int64(offset), uint32(i)}
			if message == "." || !at.before(s.pg.next) || slices.ContainsFunc(s.pg.lost, func(g span) bool { return g.contains(at) }) {
				continue
			}
			if s.pg.events&(1<<(message[i]-'A')) == 0 {
				x.blame("LOST: slot %v is covered, %c is not stored", at, message[i])
			}
		}
	}
}

// ends lets everybody who is alive work until nothing happens, and checks that nothing is left to do.
func (x *explorer) ends(s *explored) {
	s = x.clone(s)
	s.members[1] = member{}
	for steps, busy := 0, true; busy; steps++ {
		if steps > 100 {
			x.blame("WEDGE: it goes on for ever")
			return
		}
		busy = false
		for _, step := range []func() bool{
			func() bool { return x.write(s, &s.members[0]) }, func() bool { return x.read(s, &s.members[0]) },
			func() bool { return x.commits(s, &s.members[0]) }, func() bool { return x.store(s) },
		} {
			busy = step() || busy
			x.look(s)
		}
		if !busy {
			busy = x.refill(s)
		}
	}
	for offset := s.start; offset < int64(len(x.input)); offset++ {
		at := slot{offset, 0}
		open := slices.ContainsFunc(s.pg.lost, func(g span) bool { return g.contains(at) })
		if x.input[offset] != "." && (open || !at.before(s.pg.next)) {
			x.blame("WEDGE: nothing happens any more, and slot %v is not stored (open gap: %v)", at, open)
		}
	}
}

// steps are the states that can follow, with what leads there.
func (x *explorer) steps(s *explored) (next []*explored, names []string) {
	try := func(name string, step func(*explored) bool) {
		if c := x.clone(s); step(c) {
			next, names = append(next, c), append(names, name)
		}
	}
	spend := func(name string, of func(*budget) *int8, step func(*explored) bool) {
		if *of(&s.budget) > 0 {
			try(name, func(c *explored) bool { *of(&c.budget)--; return step(c) })
		}
	}
	for i, name := range []string{"enricher", "zombie"} {
		try(name+" reads", func(c *explored) bool { return x.read(c, &c.members[i]) })
		try(name+" writes", func(c *explored) bool { return x.write(c, &c.members[i]) })
	}
	try("enricher commits", func(c *explored) bool { return x.commits(c, &c.members[0]) })
	try("sink stores", x.store)
	try("refill", x.refill)
	for _, window := range [][2]int8{s.table, {-1, -1}} { // forgetting is always safe
		spend(fmt.Sprint("enricher crashes, its window is ", window), func(b *budget) *int8 { return &b.crashes }, func(c *explored) bool {
			x.restart(c, &c.members[0], window)
			return true
		})
	}
	spend("enricher becomes a zombie", func(b *budget) *int8 { return &b.zombies }, func(c *explored) bool {
		c.members[1] = c.members[0]
		x.restart(c, &c.members[0], c.table)
		return true
	})
	spend("retention", func(b *budget) *int8 { return &b.retention }, func(c *explored) bool {
		c.start++
		return c.start < int64(len(x.input))
	})
	spend("audit-records is emptied", func(b *budget) *int8 { return &b.emptied }, func(c *explored) bool {
		c.first = len(c.log)
		return c.first > 0
	})
	if !s.backup.valid && s.rollbacks > 0 {
		try("backup", func(c *explored) bool { c.backup = c.pg; c.backup.valid = true; return true })
	}
	if s.backup.valid {
		spend("PostgreSQL goes back", func(b *budget) *int8 { return &b.rollbacks }, func(c *explored) bool {
			if x.notCompared {
				c.mind = c.pg
				c.mind.valid = true
			}
			position := c.pg.position
			c.pg = c.backup
			if x.seeksToCommit {
				c.pg.position = position
			}
			return true
		})
	}
	return next, names
}

// explore goes through all states, nearest first, and returns the shortest way to one in which something is wrong.
func (x *explorer) explore(faults budget) (states int, wrong string) {
	begin := &explored{budget: faults, table: [2]int8{-1, -1}}
	x.restart(begin, &begin.members[0], begin.table)
	type from struct{ key, step string }
	ways := map[string]from{begin.key(): {}}
	for queue := []*explored{begin}; len(queue) > 0; queue = queue[1:] {
		s := queue[0]
		states++
		x.look(s)
		x.ends(s)
		if x.wrong != "" {
			way := ""
			for key := s.key(); ways[key].step != ""; key = ways[key].key {
				way = "\n  " + ways[key].step + way
			}
			return states, x.wrong + way
		}
		next, names := x.steps(s)
		for i, n := range next {
			if key := n.key(); ways[key].step == "" && key != begin.key() {
				ways[key] = from{s.key(), names[i]}
				queue = append(queue, n)
			}
		}
	}
	return states, ""
}

// explorations are small pipelines that together have everything happen.
var explorations = []struct {
	input  string
	faults budget
}{
	{"A . AB", budget{retention: 1, emptied: 1, rollbacks: 1}},
	{"A A B", budget{retention: 2, emptied: 1}},
	{"AA . BA", budget{crashes: 1, zombies: 1}},
	{"A B", budget{emptied: 1, rollbacks: 1, crashes: 1}},
	{"A . A", budget{crashes: 1, zombies: 1, rollbacks: 1}},
	{"A B A", budget{crashes: 1, zombies: 1}},
	{"AB A", budget{retention: 1, emptied: 1, crashes: 1}},
}

// TestExploreTheRules goes through every interleaving of the explorations.
func TestExploreTheRules(t *testing.T) {
	for _, e := range explorations {
		x := &explorer{input: strings.Fields(e.input)}
		states, wrong := x.explore(e.faults)
		if wrong != "" {
			t.Errorf("input %s, %+v: %s", e.input, e.faults, wrong)
		}
		t.Logf("input %-8s %+v: %d states", e.input, e.faults, states)
	}
}

// TestExplorerNoticesEachRule switches one rule of the model off after the other: each must be violated in one of the explorations, or they show
// nothing. A refill heals what two of the rules prevent; these are looked at without one, where nothing needs it as long as they hold.
func TestExplorerNoticesEachRule(t *testing.T) {
	for name, without := range map[string]rules{
		"only an earlier slot makes a duplicate (R6)":     {seenBefore: true},
		"outputs cover the holes before them (R4)":        {overHole: true},
		"nothing is committed before it is written (R3)":  {commitsAhead: true, noRefill: true},
		"the position is compared (R11)":                  {notCompared: true},
		"the sink reads from PostgreSQL's position (R10)": {seeksToCommit: true, noRefill: true},
	} {
		wrong := ""
		for _, e := range explorations {
			if without.noRefill && e.faults.emptied > 0 || wrong != "" {
				continue
			}
			if without.noRefill {
				if _, needed := (&explorer{input: strings.Fields(e.input), rules: rules{noRefill: true}}).explore(e.faults); needed != "" {
					t.Errorf("with all rules %s needs a refill: %s", e.input, needed)
				}
			}
			_, wrong = (&explorer{input: strings.Fields(e.input), rules: without}).explore(e.faults)
		}
		if wrong == "" {
			t.Errorf("without the rule that %s nothing goes wrong: the model shows nothing", name)
		}
		t.Logf("without the rule that %s:\n%s", name, wrong)
	}
	if violation(rules{noRefill: true}) == "" {
		t.Error("without a refill (R21) nothing goes wrong: the model shows nothing")
	}
}

// violation is the shortest violation of the first exploration that has one.
func violation(without rules) string {
	for _, e := range explorations {
		x := &explorer{input: strings.Fields(e.input), rules: without}
		if _, wrong := x.explore(e.faults); wrong != "" {
			return fmt.Sprintf("%s: %s", e.input, wrong)
		}
	}
	return ""
}
