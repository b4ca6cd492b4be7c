package event

// Reasons of dead letters: stable codes, in the order in which they are looked for.
const (
	ReasonOversize             = "OVERSIZE"              // message over 500 events or 256 KiB
	ReasonEmpty                = "EMPTY"                 // message without a value or without events
	ReasonUndecodable          = "UNDECODABLE"           // not an event
	ReasonWrongPartition       = "WRONG_PARTITION"       // not the partition of the key
	ReasonWrongSource          = "WRONG_SOURCE"          // the event's source is not the key
	ReasonUnexpectedEnrichment = "UNEXPECTED_ENRICHMENT" // carries what only the enricher may say
	ReasonInvalidEvent         = "INVALID_EVENT"         // over a limit of event.proto
	ReasonConflict             = "CONFLICT"              // same id as a stored event, other content
	ReasonExpired              = "EXPIRED"               // older than what retention has removed
)
