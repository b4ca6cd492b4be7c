package faults

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// proxy stands between two parts and can be told to misbehave. It is toxiproxy, in this process.
type proxy struct {
	t     *T
	inner *toxiproxy.Proxy
}

// proxy starts a proxy in front of an address. It ends with the scenario.
func (t *T) proxy(name, upstream string) *proxy {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	p := &proxy{t: t, inner: toxiproxy.NewProxy(server, name, "127.0.0.1:0", upstream)}
	if err := p.inner.Start(); err != nil {
		t.Fatalf("start the proxy of %s: %v", name, err)
	}
	t.Cleanup(p.inner.Stop)
	return p
}

func (p *proxy) addr() string { return p.inner.Listen }

// toxic is one way to misbehave, in toxiproxy's words.
type toxic struct {
	Type       string           `json:"type"`
	Attributes map[string]int64 `json:"attributes"` // ms; KB/s for the rate of bandwidth
	Stream     string           `json:"stream"`     // "upstream" or "downstream"; add sets both
	upOnly     bool
}

var (
	slow      = toxic{Type: "latency", Attributes: map[string]int64{"latency": 250, "jitter": 100}}
	narrow    = toxic{Type: "bandwidth", Attributes: map[string]int64{"rate": 20}}
	resets    = toxic{Type: "reset_peer", Attributes: map[string]int64{"timeout": 50}, upOnly: true}
	blackHole = toxic{Type: "timeout", Attributes: map[string]int64{"timeout": 0}}
)

// add makes all connections misbehave, those that exist and new ones.
func (p *proxy) add(what toxic) {
	p.t.Helper()
	for _, what.Stream = range []string{"upstream", "downstream"} {
		if what.upOnly && what.Stream == "downstream" {
			continue
		}
		text, err := json.Marshal(what)
		if err == nil {
			_, err = p.inner.Toxics.AddToxicJson(strings.NewReader(string(text)))
		}
		if err != nil {
			p.t.Fatalf("%s, %s: %v", p.inner.Name, what.Type, err)
		}
	}
}

// heal ends all misbehaviour. Connections through a black hole end: what went in is lost, and what comes next would follow a hole.
func (p *proxy) heal() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	p.inner.Toxics.ResetToxics(ctx)
}

// cut ends all connections and refuses new ones.
func (p *proxy) cut() { p.inner.Stop() }

// turnTo ends all connections and leads new ones, to the same address, to another server.
func (p *proxy) turnTo(upstream string) {
	p.t.Helper()
	if err := p.inner.Update(&toxiproxy.Proxy{Listen: p.inner.Listen, Upstream: upstream, Enabled: true}); err != nil {
		p.t.Fatalf("turn the proxy of %s to %s: %v", p.inner.Name, upstream, err)
	}
}
