package group

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

func TestEnding(t *testing.T) {
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		o    outcome
		want ending
	}{
		"stopping while joining":           {outcome{err: context.Canceled, contextDone: true}, stopped},
		"stopping":                         {outcome{contextDone: true, session: true}, stopped},
		"stopping with failed commits":     {outcome{err: boom, contextDone: true, session: true}, stopped},
		"refusal while stopping":           {outcome{contextDone: true, refusal: boom}, refused},
		"refusal of a hook":                {outcome{err: fmt.Errorf("find positions: %w", Refusef("no")), session: true}, refused},
		"closed":                           {outcome{err: sarama.ErrClosedConsumerGroup}, closed},
		"fenced in a session":              {outcome{cause: sarama.ErrFencedInstancedId, session: true}, refused},
		"fenced while joining":             {outcome{err: sarama.ErrFencedInstancedId}, refused},
		"coordinator away":                 {outcome{err: sarama.ErrOutOfBrokers}, joinFailed},
		"rebalance":                        {outcome{cause: sarama.ErrRebalanceInProgress, session: true}, rebalanced},
		"rebalance while waiting":          {outcome{err: context.Canceled, cause: sarama.ErrRebalanceInProgress, session: true}, rebalanced},
		"rebalance with failed commits":    {outcome{err: boom, cause: sarama.ErrRebalanceInProgress, session: true}, rebalanced},
		"thrown out":                       {outcome{cause: sarama.ErrUnknownMemberId, session: true}, rebalanced},
		"partitions were added":            {outcome{cause: sarama.ErrSessionPartitionCountChanged, session: true}, rebalanced},
		"ended by its owner":               {outcome{err: boom, cause: boom, owner: boom, session: true}, byOwner},
		"callback failed":                  {outcome{err: boom, cause: sarama.ErrSessionConsumeClaimExited, session: true}, failed},
		"heartbeat failed":                 {outcome{cause: sarama.ErrSessionHeartbeatFailed, session: true}, failed},
		"setup failed":                     {outcome{err: boom, cause: context.Canceled, session: true}, failed},
		"claim ended outside the log":      {outcome{cause: sarama.ErrSessionConsumeClaimExited, session: true}, failed},
		"ended before there was a session": {outcome{}, rebalanced},
	} {
		if got := c.o.ending(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestRetries(t *testing.T) {
	r := retries{min: 50 * time.Millisecond, max: time.Second}
	for i, want := range []int{50, 100, 200, 400, 800, 1000, 1000} {
		if got := r.next(); got != time.Duration(want)*time.Millisecond {
			t.Errorf("%d: %v, want %d ms", i, got, want)
		}
	}
	r.reset()
	for i, want := range []int{0, 50, 100} {
		if got := r.nextAfterFree(); got != time.Duration(want)*time.Millisecond {
			t.Errorf("after free %d: %v, want %d ms", i, got, want)
		}
	}
}
