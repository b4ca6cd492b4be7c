package eventfile

import (
	"fmt"
	"io"
	"time"

	"github.com/parquet-go/parquet-go"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// row is one row of a Parquet file: the columns of Columns, in their order; a test holds both together.
type row struct {
	ID              string            `parquet:"id"`
	OccurredAt      *time.Time        `parquet:"occurred_at,optional,timestamp(nanosecond)"`
	ReceivedAt      *time.Time        `parquet:"received_at,optional,timestamp(nanosecond)"`
	Source          string            `parquet:"source,dict"`
	Principal       string            `parquet:"principal,dict"`
	Action          string            `parquet:"action,dict"`
	Kind            string            `parquet:"kind,dict"`
	Outcome         string            `parquet:"outcome,dict"`
	ReasonCode      string            `parquet:"reason_code,dict"`
	Reason          string            `parquet:"reason"`
	ActorType       string            `parquet:"actor_type,dict"`
	ActorID         string            `parquet:"actor_id,dict"`
	ActorName       string            `parquet:"actor_name,dict"`
	ActorSession    string            `parquet:"actor_session"`
	ActorAuthMethod string            `parquet:"actor_auth_method,dict"`
	ActorOnBehalfOf []thing           `parquet:"actor_on_behalf_of,list"`
	Resources       []thing           `parquet:"resources,list"`
	Changes         []change          `parquet:"changes,list"`
	IP              string            `parquet:"ip,dict"`
	UserAgent       string            `parquet:"user_agent,dict"`
	RequestID       string            `parquet:"request_id"`
	TraceID         string            `parquet:"trace_id"`
	SpanID          string            `parquet:"span_id"`
	Host            string            `parquet:"host,dict"`
	Region          string            `parquet:"region,dict"`
	ServiceVersion  string            `parquet:"service_version,dict"`
	Attributes      map[string]string `parquet:"attributes"`
	Details         string            `parquet:"details"`
	Owner           string            `parquet:"owner,dict"`
	Environment     string            `parquet:"environment,dict"`
	Classification  string            `parquet:"classification,dict"`
	RetentionDays   int32             `parquet:"retention_days"`
	ActorNew        bool              `parquet:"actor_new"`
	ActorFailures   int32             `parquet:"actor_failures"`
	LatenessSeconds float64           `parquet:"lateness_seconds"`
	IngestedAt      *time.Time        `parquet:"ingested_at,optional,timestamp(nanosecond)"`
	IdempotencyKey  string            `parquet:"idempotency_key"`
	Log             int32             `parquet:"log"`
	LogIndex        int64             `parquet:"log_index"`
}

func rowOf(e *audittrailv1.Event) row {
	actor, context, enrichment := e.GetActor(), e.GetContext(), e.GetEnrichment()
	return row{
		ID: e.GetId(), OccurredAt: timeOf(e.OccurredAt), ReceivedAt: timeOf(e.ReceivedAt), Source: e.GetSource(), Principal: e.GetPrincipal(),
		Action: e.GetAction(), Kind: kindText(e), Outcome: outcomeText(e), ReasonCode: e.GetReasonCode(), Reason: e.GetReason(),
		ActorType: actor.GetType(), ActorID: actor.GetId(), ActorName: actor.GetName(), ActorSession: actor.GetSession(),
		ActorAuthMethod: actor.GetAuthMethod(), ActorOnBehalfOf: onBehalfOf(e), Resources: resources(e), Changes: changes(e),
		IP: context.GetIp(), UserAgent: context.GetUserAgent(), RequestID: context.GetRequestId(), TraceID: context.GetTraceId(), SpanID: context.GetSpanId(),
		Host: context.GetHost(), Region: context.GetRegion(), ServiceVersion: context.GetServiceVersion(), Attributes: e.GetAttributes(), Details: e.GetDetails(),
		Owner: enrichment.GetOwner(), Environment: enrichment.GetEnvironment(), Classification: enrichment.GetClassification(),
		RetentionDays: int32(enrichment.GetRetentionDays()), ActorNew: enrichment.GetActorNew(), ActorFailures: int32(enrichment.GetActorFailures()),
		LatenessSeconds: enrichment.GetLateness().AsDuration().Seconds(), IngestedAt: timeOf(enrichment.GetIngestedAt()),
		IdempotencyKey: e.GetIdempotencyKey(), Log: e.GetPosition().GetLog(), LogIndex: e.GetPosition().GetIndex(),
	}
}

func timeOf(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}

// groupBytes and groupRows bound a row group, which is gathered in memory.
const (
	groupBytes = 32 << 20
	groupRows  = 100_000
)

// Parquet writes a Parquet file, compressed with zstd.
type Parquet struct {
	out   *parquet.GenericWriter[row]
	rows  [1]row
	bytes int // of the events in the row group
	n     int
}

// NewParquet writes to w. The file is one only after Close.
func NewParquet(w io.Writer) *Parquet {
	return &Parquet{out: parquet.NewGenericWriter[row](w, parquet.Compression(&parquet.Zstd), parquet.CreatedBy("audittrail", "", ""))}
}

// Add adds an event.
func (p *Parquet) Add(e *audittrailv1.Event) error {
	p.rows[0] = rowOf(e)
	if _, err := p.out.Write(p.rows[:]); err != nil {
		return fmt.Errorf("write parquet: %w", err)
	}
	p.bytes += e.SizeVT()
	if p.n++; p.bytes < groupBytes && p.n < groupRows {
		return nil
	}
	p.bytes, p.n = 0, 0
	if err := p.out.Flush(); err != nil {
		return fmt.Errorf("write parquet: %w", err)
	}
	return nil
}

// Close writes the end of the file. It does not close the writer below.
func (p *Parquet) Close() error {
	if err := p.out.Close(); err != nil {
		return fmt.Errorf("write parquet: %w", err)
	}
	return nil
}
