package group

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lovoo/goka"
)

// Supervise builds the processor and runs it, and does so again, with back-off, when it could not be built (goka's
// constructor fails while a broker is down) or died; a goka processor can be run only once. It returns nil when ctx is
// done, or when the processor was stopped by its own Stop, and the Refusal after one (also one that build returned).
//
// build must give the processor this wrapper's Options. While a constructor runs, the end of ctx waits for it: some
// seconds at most with tight dial time-outs.
func (w *Wrapper) Supervise(ctx context.Context, build func() (*goka.Processor, error)) error {
	retry := retries{min: w.config.RetryMin, max: w.config.RetryMax}
	var lastError string
	for {
		began := time.Now()
		if w.Err() != nil {
			return w.Err()
		}
		p, err := build()
		if err == nil {
			err = p.Run(ctx)
		} else {
			err = fmt.Errorf("build processor: %w", err)
		}
		if isRefusal(err) {
			w.refuse(asRefusal(err))
		}
		switch {
		case w.Err() != nil:
			return w.Err()
		case ctx.Err() != nil:
			if err != nil && !errors.Is(err, context.Canceled) {
				w.log.Warn().Err(err).Msg("processor stopped with an error")
			}
			return nil
		case err == nil:
			return nil
		}
		if time.Since(began) > time.Minute {
			retry.reset()
		}
		delay := retry.next()
		w.metrics.restarts.Inc()
		event := w.log.Warn()
		if err.Error() == lastError {
			event = w.log.Debug()
		}
		event.Err(err).Dur("retry_in", delay).Msg("processor died")
		lastError = err.Error()
		if !sleep(ctx, delay) {
			return nil
		}
	}
}
