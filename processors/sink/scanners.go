package sink

import (
	"sync"

	"github.com/maxviazov/audittrail/proto/segment"
)

// scanner is the working memory of one callback.
type scanner struct {
	segment.Scanner
	hasher segment.Hasher
}

var scanners = sync.Pool{New: func() any { return new(scanner) }}
