package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
)

// TestPartsStopInTheOrderOfTheData: each is stopped only when the one before has ended.
func TestPartsStopInTheOrderOfTheData(t *testing.T) {
	p := &process{log: zerolog.New(zerolog.NewTestWriter(t))}
	var mu sync.Mutex
	var ended []string
	ctx, cancel := context.WithCancel(t.Context())
	var ready sync.WaitGroup
	make := func(name string, err error) part {
		ready.Add(1)
		return part{name, func(ctx context.Context) error {
			ready.Done()
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, name)
			return err
		}}
	}
	parts := []part{make("emitter", nil), make("enricher", nil), make("sink", nil), make("server", nil)}
	go func() {
		ready.Wait()
		cancel()
	}()
	if err := p.runParts(ctx, parts...); err != nil {
		t.Errorf("runParts = %v", err)
	}
	if want := []string{"emitter", "enricher", "sink", "server"}; !slices.Equal(ended, want) {
		t.Errorf("ended %v, want %v", ended, want)
	}
}

func TestAPartThatFailsStopsTheOthers(t *testing.T) {
	p := &process{log: zerolog.Nop()}
	cause := errors.New("refused")
	err := p.runParts(t.Context(),
		part{"emitter", func(ctx context.Context) error { <-ctx.Done(); return nil }},
		part{"sink", func(context.Context) error { return cause }})
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "sink: refused") {
		t.Errorf("runParts = %v, want the sink's error by its name", err)
	}
	if err := p.runParts(t.Context(), part{"sink", func(context.Context) error { return nil }}); err == nil {
		t.Error("a part that ends by itself is a failure")
	}
}
