package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"time"
)

// profiles captures CPU profiles of the generator and the roles for the given time, into -profile, one file a process. The first
// profile of a process changes what it costs by about a hundredth.
func (r *rig) profiles(ctx context.Context, lasting time.Duration) (wait func() error, err error) {
	if err := os.MkdirAll(r.profile, 0o755); err != nil {
		return nil, fmt.Errorf("directory of profiles: %w", err)
	}
	own, err := os.Create(filepath.Join(r.profile, "generator.pprof"))
	if err != nil {
		return nil, fmt.Errorf("profile the generator: %w", err)
	}
	if err := pprof.StartCPUProfile(own); err != nil {
		return nil, fmt.Errorf("profile the generator: %w", err)
	}
	var wg sync.WaitGroup
	errs := make([]error, len(r.httpAddrs))
	for i, p := range []string{"emitter", "enricher", "sink"} {
		wg.Go(func() {
			url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", r.httpAddrs[i], max(1, int(lasting.Seconds())))
			if err := download(ctx, url, filepath.Join(r.profile, p+".pprof")); err != nil {
				errs[i] = fmt.Errorf("profile the %s: %w", p, err)
			}
		})
	}
	return func() error {
		pprof.StopCPUProfile()
		wg.Wait()
		return errors.Join(errors.Join(errs...), own.Close())
	}, nil
}

func download(ctx context.Context, url, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, resp.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}
