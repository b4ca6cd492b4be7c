package views

import "github.com/prometheus/client_golang/prometheus"

// metrics of the gateway's inside. Calls by method and code are counted by whoever serves them.
type metrics struct {
	records      *prometheus.CounterVec // result: hit, miss, refused, error
	bundles      *prometheus.CounterVec // result: hit, miss
	bundleBytes  prometheus.Gauge
	segmentsRead prometheus.Counter
	rowsScanned  prometheus.Counter
	unfinished   prometheus.Counter
	walks        *prometheus.CounterVec // way: bundles, rows
	tails        prometheus.Gauge
	tailLag      prometheus.Histogram

	redisFailures *prometheus.CounterVec // use: records, limits
	redisAway     prometheus.Gauge
	limited       *prometheus.CounterVec // by: shared, local
}

func newMetrics(r prometheus.Registerer) *metrics {
	const namespace, subsystem = "audittrail", "gateway"
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
	}
	m := &metrics{
		records: prometheus.NewCounterVec(counter("record_cache_total",
			"Look-ups of single records in Redis or memory, by result; refused: the entry was not authentic."), []string{"result"}),
		bundles: prometheus.NewCounterVec(counter("bundle_cache_total", "Look-ups of decoded bundles in memory, by result."), []string{"result"}),
		bundleBytes: gauge("bundle_cache_bytes",
			"Memory held by decoded bundles."),
		segmentsRead: prometheus.NewCounter(counter("segments_read_total", "Bundles read from PostgreSQL and decoded.")),
		rowsScanned:  prometheus.NewCounter(counter("rows_scanned_total", "Rows of events looked at by lists.")),
		unfinished: prometheus.NewCounter(counter("pages_cut_total",
			"Pages that ended before they were full because the search took too long.")),
		walks: prometheus.NewCounterVec(counter("walks_total",
			"Calls that searched events, by way: bundles that may hold something, or rows of events."), []string{"way"}),
		tails: gauge("tails", "Streams that follow the logs."),
		tailLag: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Subsystem: subsystem, Name: "tail_lag_seconds",
			Help:    "Time from when the gateway saw that the logs had grown to when a stream had sent what was new.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}),
	}
	m.redisFailures = prometheus.NewCounterVec(counter("redis_failures_total",
		"Calls that had to do without Redis, because it failed, was too slow, or had just been; by use. Alert on it: the gateway works, but slower, and each replica limits rates on its own."),
		[]string{"use"})
	m.redisAway = gauge("redis_away", "1 while Redis is left alone after a failure, 0 once it has answered again.")
	m.limited = prometheus.NewCounterVec(counter("limited_total",
		"Calls refused because their principal made too many, by the bucket that was empty."), []string{"by"})
	r.MustRegister(m.records, m.bundles, m.bundleBytes, m.segmentsRead, m.rowsScanned, m.unfinished, m.walks, m.tails, m.tailLag,
		m.redisFailures, m.redisAway, m.limited)
	for _, use := range []string{"records", "limits"} {
		m.redisFailures.WithLabelValues(use)
	}
	for _, by := range []string{"shared", "local"} {
		m.limited.WithLabelValues(by)
	}
	for _, result := range []string{"hit", "miss", "refused", "error"} {
		m.records.WithLabelValues(result)
	}
	for _, way := range []string{"bundles", "rows"} {
		m.walks.WithLabelValues(way)
	}
	for _, result := range []string{"hit", "miss"} {
		m.bundles.WithLabelValues(result)
	}
	return m
}
