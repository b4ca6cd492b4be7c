package event

import "time"

// Limits of an event: lengths are bytes of UTF-8. They are part of the contract (event.proto).
const (
	MaxSource         = 256
	MaxIdempotencyKey = 128

	MaxActorType       = 64
	MaxActorID         = 128
	MaxActorName       = 256
	MaxActorSession    = 128
	MaxActorAuthMethod = 64
	MaxOnBehalfOf      = 4

	MaxAction     = 128
	MaxReasonCode = 64
	MaxReason     = 1 << 10

	MaxResources    = 32
	MaxResourceType = 128
	MaxResourceID   = 1 << 10
	MaxResourceName = 256

	MaxChanges     = 128
	MaxChangePath  = 256
	MaxChangeValue = 4 << 10

	MaxIP             = 64 // no address is longer; the value must parse anyway
	MaxUserAgent      = 512
	MaxRequestID      = 128
	MaxTraceID        = 64
	MaxSpanID         = 64
	MaxHost           = 256
	MaxRegion         = 64
	MaxServiceVersion = 128

	MaxAttributes     = 64
	MaxAttributeKey   = 64
	MaxAttributeValue = 1 << 10

	MaxDetails = 32 << 10

	// MaxEncoded is the size of an encoded event without the stamps of emitter and enricher.
	MaxEncoded = 60 << 10

	// DefaultMaxFuture is how far occurred_at may lie after the time of receipt.
	DefaultMaxFuture = 5 * time.Minute

	// MaxOwner, MaxEnvironment, MaxClassification and MaxRetentionDays limit a source's registration.
	MaxOwner          = 128
	MaxEnvironment    = 64
	MaxClassification = 64
	MaxRetentionDays  = 36_500
)

// MaxNamedActions is how many different actions the store gives numbers; events of further ones have the number 0, and are told apart
// by their records only.
const MaxNamedActions = 100_000

// MinOccurredAt is the earliest time an event may have happened at.
var MinOccurredAt = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
