package serve

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// metrics counts calls; method and code are bounded by the services.
type metrics struct {
	calls    *prometheus.CounterVec   // method, code
	seconds  *prometheus.HistogramVec // method; unary calls only
	inFlight *prometheus.GaugeVec     // method
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "audittrail", Subsystem: "grpc", Name: "calls_total", Help: "Calls that ended, HTTP/JSON included, by method and gRPC code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "audittrail", Subsystem: "grpc", Name: "call_duration_seconds", Help: "Duration of calls that are no streams.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"method"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "audittrail", Subsystem: "grpc", Name: "calls_in_flight", Help: "Calls in progress.",
		}, []string{"method"}),
	}
	r.MustRegister(m.calls, m.seconds, m.inFlight)
	return m
}

func (m *metrics) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	method, began := methodName(info.FullMethod), time.Now()
	m.inFlight.WithLabelValues(method).Inc()
	resp, err := next(ctx, req)
	m.inFlight.WithLabelValues(method).Dec()
	m.seconds.WithLabelValues(method).Observe(time.Since(began).Seconds())
	m.calls.WithLabelValues(method, status.Code(err).String()).Inc()
	return resp, err
}

func (m *metrics) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	method := methodName(info.FullMethod)
	m.inFlight.WithLabelValues(method).Inc()
	err := next(srv, stream)
	m.inFlight.WithLabelValues(method).Dec()
	m.calls.WithLabelValues(method, status.Code(err).String()).Inc()
	return err
}

// methodName is Service/Method without the package.
func methodName(full string) string {
	full = strings.TrimPrefix(full, "/")
	if slash := strings.IndexByte(full, '/'); slash >= 0 {
		return full[strings.LastIndexByte(full[:slash], '.')+1:]
	}
	return full
}
