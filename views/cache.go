package views

import (
	"bytes"
	"context"

	"github.com/maxviazov/audittrail/proto/event"
)

// cachedRecord is a record and its place in the logs. Neither ever changes, so that nothing has to be invalidated; who may
// see it is decided after the cache.
type cachedRecord struct {
	log    int16
	index  int64
	record []byte
}

// recordCache keeps single records by id. Its calls cannot fail: what goes wrong is a miss.
type recordCache interface {
	// get returns a record for each id, nil where there is none.
	get(ctx context.Context, ids []event.ID) []*cachedRecord
	put(ctx context.Context, id event.ID, r cachedRecord)
}

// memoryCache keeps records in the memory of this process, where there is no Redis.
type memoryCache struct {
	records *lru[event.ID, *cachedRecord]
	metrics *metrics
}

func newMemoryCache(budget int64, m *metrics) *memoryCache {
	return &memoryCache{records: newLRU[event.ID, *cachedRecord](budget), metrics: m}
}

func (c *memoryCache) get(_ context.Context, ids []event.ID) []*cachedRecord {
	found := make([]*cachedRecord, len(ids))
	for i, id := range ids {
		var ok bool
		if found[i], ok = c.records.get(id); ok {
			c.metrics.records.WithLabelValues("hit").Inc()
		} else {
			c.metrics.records.WithLabelValues("miss").Inc()
		}
	}
	return found
}

func (c *memoryCache) put(_ context.Context, id event.ID, r cachedRecord) {
	r.record = bytes.Clone(r.record) // it is part of a bundle, which it would keep in memory
	c.records.put(id, &r, int64(len(r.record)))
}
