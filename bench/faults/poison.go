package faults

import "time"

var poisonScenarios = []Scenario{
	{ID: "F18-19-bad-input", Title: "every limit at it and beyond it, bytes at random, wrong keys, oversize, conflicts, transactions: refused or a dead letter, each accounted for",
		Quick: true, Run: badInputs},
}

// badInputs holds clauses 2 and 3 of the contract (rejected means nothing happened, and the reply names the field; nothing is
// dropped silently) and R1, R4, R5, R8, R9, R16: whatever is sent to the front door or written straight into audit-events, the
// answer is clear, what cannot be processed is a dead letter with its reason, and everything around it is stored. Each part
// sends; then everything is accounted for, one by one, and judged.
func badInputs(t *T) {
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: badPartitions, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	s.allReady(30 * time.Second)
	b := newBadInput(t, s)
	for _, part := range []struct {
		name string
		send func(*T)
	}{
		{"limits, one event a call", b.limitsSingly},
		{"limits, in a batch", b.limitsInBatch},
		{"limits, in a stream", b.limitsInStream},
		{"requests", b.requests},
		{"http", b.http},
		{"limits, raw", b.limitsRaw},
		{"stamps", b.stamps},
		{"bytes", b.bytes},
		{"keys", b.keys},
		{"oversize", b.oversize},
		{"same key, other content", b.conflicts},
		{"transactions", b.transactions},
	} {
		t.part(part.name, part.send)
	}
	if t.Failed() {
		t.FailNow()
	}
	b.settled(t)
	rows := b.account(t)
	b.accountTopic(t, rows)
	b.accountCLI(t, rows)
	t.Logf("%d good events, %d dead letters", b.good, len(rows))
	t.part("redrive", b.redrive)

	v := s.judge()
	t.Logf("verdict: %s", v)
	if !v.OK() || v.Acked != b.good || v.Stored != b.good || v.DeadLetters != len(b.storedLetters(t)) {
		t.Errorf(contractBroken+": %d good events: %s", b.good, v)
	}
}

func (b *badInput) settled(t *T) {
	t.Helper()
	if err := b.settle(time.Minute); err != nil {
		t.Fatal(err)
	}
}

// waitFor waits for a condition.
func waitFor(t *T, what string, within time.Duration, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
