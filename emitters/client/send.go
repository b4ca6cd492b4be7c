package client

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// work delivers one batch after the other until ctx ends.
func (c *Client) work(ctx context.Context) {
	for {
		batch := c.buffer.next(ctx)
		if batch == nil {
			return
		}
		c.deliver(ctx, batch)
	}
}

// deliver sends the events again and again until each has a result. What the emitter has recorded or refused for good is not sent again.
func (c *Client) deliver(ctx context.Context, batch []*item) {
	for try := 1; ; try++ {
		left, last, asked := c.try(ctx, batch)
		wait := c.options.backoff(try, asked)
		now := time.Now()
		batch = left[:0]
		for _, i := range left {
			switch {
			case ctx.Err() != nil:
				c.undelivered(i, fmt.Errorf("%w: %w", ErrClosed, last))
			case now.Add(wait).Sub(i.since) > c.options.DeliveryTimeout:
				c.undelivered(i, fmt.Errorf("%w (%s, %d tries): %w", ErrGivenUp, c.options.DeliveryTimeout, try, last))
			default:
				batch = append(batch, i)
			}
		}
		if len(batch) == 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			for _, i := range batch {
				c.undelivered(i, fmt.Errorf("%w: %w", ErrClosed, last))
			}
			return
		}
	}
}

// try sends the events once and settles those that have a result. It returns the others, with the last status and how long the emitter
// asks to wait.
func (c *Client) try(ctx context.Context, batch []*item) (left []*item, last error, asked time.Duration) {
	req := &audittrailv1.BatchEmitEventsRequest{Events: make([]*audittrailv1.Event, len(batch))}
	for n, i := range batch {
		req.Events[n] = i.event
	}
	call, cancel := context.WithTimeout(ctx, c.options.CallTimeout)
	defer cancel()
	resp, err := c.rpc.BatchEmitEvents(call, req, callOptions...)
	if err == nil && len(resp.Results) != len(batch) {
		err = status.Errorf(codes.Internal, "%d results for %d events", len(resp.Results), len(batch))
	}
	if err != nil {
		s := status.Convert(err)
		asked, ok := retryable(s)
		if ok {
			return batch, err, asked
		}
		for n, i := range batch {
			c.undelivered(i, statusOf(s, n))
		}
		return nil, nil, 0
	}
	for n, i := range batch {
		refused := resp.Results[n].GetStatus()
		if refused == nil {
			c.buffer.resolve(i, nil)
			continue
		}
		s := status.FromProto(refused)
		after, ok := retryable(s)
		if !ok {
			c.undelivered(i, s.Err())
			continue
		}
		left, last, asked = append(left, i), s.Err(), max(asked, after)
	}
	return left, last, asked
}

// undelivered gives an event up.
func (c *Client) undelivered(i *item, err error) {
	if c.options.OnUndelivered != nil {
		c.options.OnUndelivered(Undelivered{Event: i.event, ID: i.delivery.ID, Err: err})
	}
	c.buffer.resolve(i, err)
}

// statusOf is the part of a whole call's error that is about event n: its own violations where the emitter named them.
func statusOf(s *status.Status, n int) error {
	if s.Code() != codes.InvalidArgument {
		return s.Err()
	}
	own := new(errdetails.BadRequest)
	prefix := fmt.Sprintf("events[%d]", n)
	for _, d := range s.Details() {
		bad, ok := d.(*errdetails.BadRequest)
		if !ok {
			continue
		}
		for _, v := range bad.FieldViolations {
			if rest, found := strings.CutPrefix(v.Field, prefix); found {
				own.FieldViolations = append(own.FieldViolations, &errdetails.BadRequest_FieldViolation{
					Field: "event" + rest, Description: v.Description})
			}
		}
	}
	if len(own.FieldViolations) == 0 {
		return s.Err()
	}
	first := own.FieldViolations[0]
	mine, err := status.New(codes.InvalidArgument, first.Field+" "+first.Description).WithDetails(own)
	if err != nil {
		return s.Err()
	}
	return mine.Err()
}
