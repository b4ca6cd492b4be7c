package views

import (
	"fmt"
	"testing"
	"time"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/views/viewstest"
)

// TestEvaluatorEqualsNaiveEvaluation is the property that holds the evaluator: whatever the filter is, reading a few fields off the
// encoding decides as evaluating the decoded event by reflection does.
func TestEvaluatorEqualsNaiveEvaluation(t *testing.T) {
	now := time.Now()
	gen := viewstest.NewGenerator(21, now, 48*time.Hour)
	events := gen.Events(60)
	records := make([][]byte, len(events))
	for i, e := range events {
		e.Position = &audittrailv1.Position{Log: int32(i % 4), Index: int64(i % 7)}
		position := e.Position
		e.Position = nil
		records[i], _ = e.MarshalVT()
		e.Position = position
	}
	const filters = 12_000
	used := make(map[*field]int)
	accepted, refused := 0, 0
	for range filters {
		text := gen.Filter(3)
		if gen.IntN(20) == 0 {
			text = fmt.Sprintf("id = %s OR %s", event.IDOf(events[gen.IntN(len(events))]), text)
		}
		c, err := compile(text, now)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		for f := range c.program.byField {
			used[f]++
		}
		for i, e := range events {
			got, err := c.match(place{int16(e.GetPosition().GetLog()), e.GetPosition().GetIndex()}, records[i])
			if err != nil {
				t.Fatal(err)
			}
			if want := c.filter.Match(e); got != want {
				t.Fatalf("%s: evaluator says %v of %v", text, got, e)
			}
			if got {
				accepted++
			} else {
				refused++
			}
		}
	}
	t.Logf("%d filters, %d accepted, %d refused", filters, accepted, refused)
	if least := filters * len(events) / 10; accepted < least || refused < least {
		t.Error("the filters do not tell events apart")
	}
	for i := range fields {
		if f := &fields[i]; used[f] == 0 {
			t.Errorf("no filter asks for %s", f.name)
		}
	}
}

// TestEvaluatorSeesWhatADecoderSees gives it encodings that no encoder makes: merged messages, scalars and keys that stand twice.
func TestEvaluatorSeesWhatADecoderSees(t *testing.T) {
	now := time.Now()
	gen := viewstest.NewGenerator(22, now, 48*time.Hour)
	for range 4000 {
		var record []byte
		for range 1 + gen.IntN(3) {
			b, _ := gen.Event().MarshalVT()
			record = append(record, b...)
		}
		e := new(audittrailv1.Event)
		if err := e.UnmarshalVT(record); err != nil {
			t.Fatal(err)
		}
		text := gen.Filter(2)
		c, err := compile(text, now)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		got, err := c.match(place{}, record)
		if want := c.filter.Match(e); err != nil || got != want {
			t.Fatalf("%s: evaluator says %v, %v of %v", text, got, err, e)
		}
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	gen := viewstest.NewGenerator(23, time.Now(), time.Hour)
	record, _ := gen.Event().MarshalVT()
	for range 200 {
		text := gen.Filter(3)
		c, err := compile(text, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(20, func() { c.match(place{}, record) }); n != 0 {
			t.Fatalf("%s: %v allocations a record", text, n)
		}
	}
}

// BenchmarkUnindexedScan evaluates filters that nothing narrows, over records in memory.
func BenchmarkUnindexedScan(b *testing.B) {
	gen := viewstest.NewGenerator(24, time.Now(), time.Hour)
	var records [][]byte
	bytes := 0
	for _, e := range gen.Events(10_000) {
		r, _ := e.MarshalVT()
		records = append(records, r)
		bytes += len(r)
	}
	for name, filter := range map[string]string{
		"text":      `reason:"*nothing*"`,
		"number":    `enrichment.actor_failures > 100`,
		"list":      `resources.name = "nothing"`,
		"attribute": `attributes.nothing:"x*"`,
		"several":   `-actor.type:"serv*" AND (context.user_agent:"*curl*" OR changes.path = "nothing") AND enrichment.lateness > 1h`,
		"words":     `nothing`,
	} {
		b.Run(name, func(b *testing.B) {
			c, err := compile(filter, time.Now())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(bytes / len(records)))
			b.RunParallel(func(pb *testing.PB) {
				c, i := c.fork(), 0
				for pb.Next() {
					if ok, _ := c.match(place{}, records[i%len(records)]); ok {
						b.Error("found something")
					}
					i++
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrecords/s")
		})
	}
}
