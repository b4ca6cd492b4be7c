package tlsfiles

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

const warnEvery = time.Hour

// Watcher follows the files of a process. Open everything before Run.
type Watcher struct {
	every   time.Duration
	log     zerolog.Logger
	metrics *metrics
	files   []*Files
	after   []func(now time.Time) // looked at by the same clock
}

type metrics struct {
	expiry  *prometheus.GaugeVec   // use, file: cert or ca
	broken  *prometheus.GaugeVec   // use
	reloads *prometheus.CounterVec // use
}

// NewWatcher returns a watcher that looks at the files every so often.
func NewWatcher(every time.Duration, log zerolog.Logger, r prometheus.Registerer) *Watcher {
	m := &metrics{
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "audittrail", Subsystem: "tls", Name: "certificate_not_after_seconds",
			Help: "When the certificate in use expires, in seconds since the epoch; of CAs, the first."}, []string{"use", "file"}),
		broken: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "audittrail", Subsystem: "tls", Name: "files_broken",
			Help: "1 while the files on disk cannot be used, and what was there before still is."}, []string{"use"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "audittrail", Subsystem: "tls", Name: "reloads_total",
			Help: "How often changed files came into use."}, []string{"use"}),
	}
	r.MustRegister(m.expiry, m.broken, m.reloads)
	return &Watcher{every: every, log: log, metrics: m}
}

// Open reads the files of a use, which must be good, and follows them from then on. Before Run only.
func (w *Watcher) Open(use string, paths Paths) (*Files, error) {
	f, err := Load(use, paths)
	if err != nil {
		return nil, err
	}
	w.files = append(w.files, f)
	w.metrics.broken.WithLabelValues(use).Set(0)
	w.metrics.reloads.WithLabelValues(use).Add(0)
	w.report(f, time.Now())
	return f, nil
}

// Also calls look each time that the files are looked at: for other files that are followed. Before Run only.
func (w *Watcher) Also(look func(now time.Time)) { w.after = append(w.after, look) }

// Run looks at the files until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			w.look(now)
		}
	}
}

func (w *Watcher) look(now time.Time) {
	for _, f := range w.files {
		w.lookAt(f, now)
	}
	for _, look := range w.after {
		look(now)
	}
}

func (w *Watcher) lookAt(f *Files, now time.Time) {
	c, err := f.paths.read(f.use)
	if err == nil && c.sum != f.sum {
		var m *material
		if m, err = f.paths.parse(f.use, c, now); err == nil {
			f.current.Store(m)
			f.sum = c.sum
			w.metrics.reloads.WithLabelValues(f.use).Inc()
			w.log.Info().Str("use", f.use).Msg("certificates reloaded")
			f.warned = time.Time{}
		}
	}
	w.report(f, now)
	if err == nil {
		f.broken, f.said = "", ""
		w.metrics.broken.WithLabelValues(f.use).Set(0)
		return
	}
	why := err.Error()
	if why == f.broken { // at the second look: nobody is in the middle of replacing them
		w.metrics.broken.WithLabelValues(f.use).Set(1)
		if why != f.said {
			f.said = why
			w.log.Error().Str("use", f.use).Err(err).Msg("new certificate files cannot be used, the old ones stay in use")
		}
	}
	f.broken = why
}

func (w *Watcher) report(f *Files, now time.Time) {
	soon := false
	for _, e := range f.Expiries() {
		label := "cert"
		if e.CA {
			label = "ca"
		}
		w.metrics.expiry.WithLabelValues(f.use, label).Set(float64(e.NotAfter.Unix()))
		if !e.Soon(now) || now.Sub(f.warned) < warnEvery {
			continue
		}
		soon = true
		message := "certificate expires soon"
		if now.After(e.NotAfter) {
			message = "certificate has expired"
		}
		w.log.Warn().Str("use", f.use).Str("file", e.File).Time("not_after", e.NotAfter).Msg(message)
	}
	if soon {
		f.warned = now
	}
}

// Expiries lists when what is in use expires, by use.
func (w *Watcher) Expiries() map[string][]Expiry {
	all := make(map[string][]Expiry, len(w.files))
	for _, f := range w.files {
		all[f.use] = f.Expiries()
	}
	return all
}
