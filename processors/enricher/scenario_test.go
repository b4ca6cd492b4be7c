package enricher

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/processors/enricher/table"
	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

var rewriteGolden = flag.Bool("update", false, "write the scenarios' expected output anew")

// TestScenarios plays testdata/*.txtar: what stands under "in" goes through one partition's store and decider, and what
// comes out must be what stands under "out". The verbs are explained at scenario.step.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("scenarios: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			head, rest, _ := strings.Cut(string(data), "-- in --\n")
			in, want, _ := strings.Cut(rest, "-- out --\n")
			got := play(t, in)
			if again := play(t, in); again != got {
				t.Fatalf("not deterministic:\n%s\nthen\n%s", got, again)
			}
			if *rewriteGolden {
				if err := os.WriteFile(file, []byte(head+"-- in --\n"+in+"-- out --\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

type scenario struct {
	t         *testing.T
	config    Config
	topics    topicIDs
	lane      lane
	logStart  int64
	changelog []changelogValue
	names     map[event.ID]string
	register  *audittrailv1.SourceRegistration
	pending   *pendingMessage
	out       strings.Builder
}

type changelogValue struct {
	key   string
	value []byte
}

type pendingMessage struct {
	message
	events [][]byte
	value  []byte
}

func play(t *testing.T, in string) string {
	s := &scenario{t: t, names: map[event.ID]string{}, config: Config{Window: time.Hour}.withDefaults(), topics: topicIDs{events: [16]byte{1}, table: [16]byte{9}}}
	s.restart()
	for _, line := range append(strings.Split(in, "\n"), "end") {
		if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) != "" {
			s.step(strings.Fields(line))
		}
	}
	return s.out.String()
}

// restart makes a new process: the store recovers from the changelog.
func (s *scenario) restart() {
	m, _ := newMetrics(nil)
	st := newStore(0, s.config, zerolog.Nop(), m)
	st.ids = s.topics
	st.refuse = func(err error) { s.t.Errorf("refused: %v", err) }
	_ = st.Open()
	for i, v := range s.changelog {
		if err := st.recover(int64(i), v.key, v.value); err != nil {
			s.t.Fatal(err)
		}
	}
	_ = st.MarkRecovered()
	if stale := slices.Sorted(maps.Keys(st.staleStates())); len(stale) > 0 {
		fmt.Fprintf(&s.out, "stale in the changelog: %v\n", stale)
	}
	s.lane = lane{store: st, logStart: func() (int64, error) { return s.logStart, nil }, next: s.lane.next,
		decider: decider{topicID: s.topics.events, partitions: 1, maxFuture: event.DefaultMaxFuture}}
}

// step takes one line of a scenario:
//
//	message N at=15:04:05 key=acme/pay   begins the message at offset N; it ends before the next verb
//	  event NAME [at= actor= action= outcome= note= source=]   NAME is the idempotency key; note changes the content only;
//	                                     received= is the emitter's stamp, and day= moves at and received by so many days
//	  bytes "..."                        an event as Go-quoted bytes
//	  many N                             N events of names 0…
//	value "..." | novalue                the value of the whole message
//	register [owner= environment= ...]   what the registry says from now on
//	restart                              the process dies; a new one recovers from the changelog, and the group starts at the offset given
//	forget                               the changelog is lost as well
//	swap                                 the last two values of the changelog change places (a zombie's came late)
//	topic N                              audit-events was created anew
//	logstart N                           retention has removed what is below N
//	unsure N                             slots below N may be missing from the log
func (s *scenario) step(words []string) {
	verb, args, options := words[0], words[1:], map[string]string{}
	for _, a := range args {
		if k, v, ok := strings.Cut(a, "="); ok {
			options[k] = v
		}
	}
	switch verb {
	case "event", "bytes", "many", "value", "novalue":
	default:
		s.deliver()
	}
	switch verb {
	case "message":
		s.pending = &pendingMessage{message: message{offset: number(s.t, args[0]), key: options["key"], ingestedAt: clockTime(s.t, options["at"])}}
	case "event":
		s.pending.events = append(s.pending.events, s.event(args[0], options))
	case "many":
		for i := range number(s.t, args[0]) {
			s.pending.events = append(s.pending.events, s.event(strconv.Itoa(int(i)), options))
		}
	case "bytes":
		s.pending.events = append(s.pending.events, []byte(unquote(s.t, args[0])))
	case "value":
		s.pending.value = []byte(unquote(s.t, args[0]))
	case "novalue":
		s.pending.value = []byte{}
	case "register":
		days, _ := strconv.Atoi(options["days"])
		s.register = &audittrailv1.SourceRegistration{Owner: options["owner"], Environment: options["environment"], RetentionDays: uint32(days)}
	case "restart":
		s.lane.next = number(s.t, args[0])
		s.restart()
	case "forget":
		s.changelog = nil
	case "swap":
		n := len(s.changelog)
		s.changelog[n-1], s.changelog[n-2] = s.changelog[n-2], s.changelog[n-1]
	case "topic":
		s.topics.events = [16]byte{byte(number(s.t, args[0]))}
	case "logstart":
		s.logStart = number(s.t, args[0])
	case "unsure":
		s.lane.decider.unsure = number(s.t, args[0])
	case "end":
	default:
		s.t.Fatalf("unknown verb %q", verb)
	}
}

func (s *scenario) event(name string, o map[string]string) []byte {
	at := s.pending.ingestedAt
	if o["at"] != "" {
		at = clockTime(s.t, o["at"])
	}
	var days time.Duration
	if o["day"] != "" {
		days = time.Duration(number(s.t, o["day"])) * 24 * time.Hour
		at = at.Add(days)
	}
	e := &audittrailv1.Event{Source: s.pending.key, IdempotencyKey: name, OccurredAt: timestamppb.New(at), Action: "invoice.read", Reason: o["note"],
		Outcome: audittrailv1.Outcome_OUTCOME_SUCCESS}
	if v, ok := o["source"]; ok {
		e.Source = v
	}
	if v, ok := o["action"]; ok {
		e.Action = v
	}
	if v, ok := o["outcome"]; ok {
		e.Outcome = audittrailv1.Outcome(audittrailv1.Outcome_value["OUTCOME_"+strings.ToUpper(v)])
	}
	if v, ok := o["actor"]; ok {
		e.Actor = &audittrailv1.Actor{Type: "user", Id: v}
	}
	if v, ok := o["received"]; ok {
		e.ReceivedAt = timestamppb.New(clockTime(s.t, v).Add(days))
	}
	if _, ok := o["enriched"]; ok {
		e.Enrichment = &audittrailv1.Enrichment{Owner: "me"}
	}
	if v, ok := o["id"]; ok {
		e.Id = v
	}
	s.names[event.IDOf(e)] = name
	return encoded(s.t, e)
}

// deliver processes the pending message as the goka callback does.
func (s *scenario) deliver() {
	p := s.pending
	if s.pending = nil; p == nil {
		return
	}
	p.message.value = p.value
	if p.value == nil {
		p.message.value = stream.EncodeBatch(&pipelinev1.EventBatch{Events: p.events})
	}
	from, err := s.lane.from(p.offset)
	if err != nil {
		s.t.Fatal(err)
	}
	var state *table.State
	if value, _ := s.lane.store.Get(p.key); value != nil {
		if state, err = stream.DecodeState(value); err != nil {
			s.t.Fatal(err)
		}
	}
	d, err := s.lane.decider.decide(p.message, state, s.register, s.lane.store.window)
	if err != nil {
		fmt.Fprintf(&s.out, "message %d: %v\n", p.offset, err)
		return
	}
	outputs := encodeOutputs(d, s.topics.events[:], &p.message, from, maxOutput)
	s.lane.store.accept(p.offset, p.ingestedAt.UnixMilli(), d.accepted)
	for _, o := range outputs {
		s.printOutput(o)
	}
	if d.state != nil {
		value := stream.EncodeState(d.state)
		if err := s.lane.store.Set(p.key, value); err != nil {
			s.t.Fatal(err)
		}
		s.changelog = append(s.changelog, changelogValue{p.key, value})
		s.printState(d.state)
	}
	s.lane.next = p.offset + 1
}

func (s *scenario) printOutput(value []byte) {
	b, err := stream.DecodeRecords(value)
	if err != nil {
		s.t.Fatal(err)
	}
	fmt.Fprintf(&s.out, "message %d covers %d.%d to %d.%d topic %d\n", b.Offset, b.FromOffset, b.FromIndex, b.EndOffset, b.EndIndex, b.TopicId[0])
	for _, r := range b.Records {
		var e audittrailv1.Event
		if err := e.UnmarshalVT(r.Record); err != nil {
			s.t.Fatal(err)
		}
		if id := event.IDOf(&e); !bytes.Equal(id[:], r.Id) {
			s.t.Errorf("record %d: its id is %x, that of its content %x", r.Index, r.Id, id)
		}
		x := e.Enrichment
		fmt.Fprintf(&s.out, "  .%d keep %s lateness=%s", r.Index, s.names[event.ID(r.Id)], x.Lateness.AsDuration())
		if x.ActorNew {
			s.out.WriteString(" new")
		}
		if x.SincePrevious != nil {
			fmt.Fprintf(&s.out, " since=%s", x.SincePrevious.AsDuration())
		}
		if x.ActorFailures > 0 {
			fmt.Fprintf(&s.out, " failures=%d", x.ActorFailures)
		}
		if x.Owner != "" {
			fmt.Fprintf(&s.out, " owner=%s/%s/%d", x.Owner, x.Environment, x.RetentionDays)
		}
		s.out.WriteString("\n")
	}
	for _, d := range b.Drops {
		fmt.Fprintf(&s.out, "  .%d drop, first at %d.%d\n", d.Index, d.FirstOffset, d.FirstIndex)
	}
	for _, d := range b.DeadLetters {
		fmt.Fprintf(&s.out, "  .%d dead %s whole=%v key=%.20q size=%d/%d: %s\n", d.Index, d.Reason, d.WholeMessage, d.Key, len(d.Original), d.OriginalSize, d.Detail)
	}
}

func (s *scenario) printState(st *table.State) {
	a := table.ToActivity(st)
	fmt.Fprintf(&s.out, "  table last=%d accepted=%d events=%d duplicates=%d late=%d dead=%d actors=%d", st.LastOffset, len(st.Accepted)/table.AcceptedSize,
		a.EventCount, a.DuplicateCount, a.LateCount, a.DeadLetterCount, a.KnownActorCount)
	if a.EventCount > 0 {
		fmt.Fprintf(&s.out, " seen=%s-%s", a.FirstSeenAt.AsTime().Format(time.TimeOnly), a.LastSeenAt.AsTime().Format(time.TimeOnly))
	}
	for _, o := range a.Outcomes {
		fmt.Fprintf(&s.out, " %s=%d", strings.ToLower(strings.TrimPrefix(o.Outcome.String(), "OUTCOME_")), o.Count)
	}
	for _, c := range a.TopActions {
		fmt.Fprintf(&s.out, " %s=%d", c.Action, c.Count)
	}
	for _, r := range st.Recent {
		fmt.Fprintf(&s.out, " recent=%s", s.names[event.ID(r.Id)])
	}
	s.out.WriteString("\n")
}

func number(t *testing.T, s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func clockTime(t *testing.T, s string) time.Time {
	c, err := time.Parse(time.DateTime, "2026-03-01 "+s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func unquote(t *testing.T, s string) string {
	u, err := strconv.Unquote(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
