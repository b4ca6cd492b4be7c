package views

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

const (
	maxFacets        = 8
	defaultFacetSize = 10
	maxFacetSize     = 1000
	maxBucketWidth   = 366 * 24 * time.Hour
)

// AggregateEvents implements QueryService.
func (s *Server) AggregateEvents(ctx context.Context, req *audittrailv1.AggregateEventsRequest) (*audittrailv1.AggregateEventsResponse, error) {
	size, facets, err := facetsOf(req)
	if err != nil {
		return nil, err
	}
	if err := checkTimes(req); err != nil {
		return nil, err
	}
	bound, err := aggregateBound(ctx, req)
	if err != nil {
		return nil, s.fail(ctx, "aggregate events", err)
	}
	at, filter, err := s.resume(ctx, req.GetFilter(), walkAggregate, req.GetPageToken(), bound...)
	if err != nil {
		return nil, s.fail(ctx, "aggregate events", err)
	}
	filter, buckets, err := withTimes(filter, req, at.now)
	if err != nil {
		return nil, err
	}
	var how explanation
	n := newTally(buckets, facets)
	next, err := s.sum(ctx, filter, at, n, &how)
	if err != nil {
		return nil, s.fail(ctx, "aggregate events", err)
	}
	resp := n.message(size)
	resp.CompleteAfter = completeAfter(next)
	resp.Exact = resp.Exact && next == nil && req.GetPageToken() == ""
	if next != nil {
		resp.NextPageToken = s.tokens.seal(walkAggregate, next.encode(), bound...)
	}
	if req.GetExplain() {
		resp.Explanation = how.message()
	}
	return resp, nil
}

// facetsOf reads what facets a request asks for. Errors are for the caller.
func facetsOf(req *audittrailv1.AggregateEventsRequest) (size int, list []*facet, err error) {
	switch n := req.GetFacetSize(); {
	case n == 0:
		size = defaultFacetSize
	case n < 0 || n > maxFacetSize:
		return 0, nil, invalid("facet_size", "is %d; expected 0 to %d", n, maxFacetSize)
	default:
		size = int(n)
	}
	if n := len(req.GetFacets()); n > maxFacets {
		return 0, nil, invalid("facets", "has %d elements; expected at most %d", n, maxFacets)
	}
	for i, name := range req.GetFacets() {
		f := newFacet(name)
		if f == nil {
			return 0, nil, invalid(fmt.Sprintf("facets[%d]", i), "%q is no field with values to count; expected one of %s", clip(name, 64), facetNames())
		}
		if slices.Contains(req.GetFacets()[:i], name) {
			return 0, nil, invalid(fmt.Sprintf("facets[%d]", i), "%q is asked for twice", name)
		}
		list = append(list, f)
	}
	return size, list, nil
}

// checkTimes checks bounds and width of a request. Errors are for the caller.
func checkTimes(req *audittrailv1.AggregateEventsRequest) error {
	for name, at := range map[string]*timestamppb.Timestamp{"start_time": req.GetStartTime(), "end_time": req.GetEndTime()} {
		if at != nil && at.CheckValid() != nil {
			return invalid(name, "is no time")
		}
	}
	if req.GetStartTime() != nil && req.GetEndTime() != nil && !req.GetStartTime().AsTime().Before(req.GetEndTime().AsTime()) {
		return invalid("end_time", "must be after start_time")
	}
	if req.GetBucketWidth() == nil {
		return nil
	}
	switch width := req.GetBucketWidth(); {
	case width.CheckValid() != nil || width.GetNanos() != 0 || width.AsDuration() < time.Second || width.AsDuration() > maxBucketWidth:
		return invalid("bucket_width", "expected whole seconds, 1 s to 366 days")
	case req.GetStartTime() == nil:
		return invalid("start_time", "is required with bucket_width")
	}
	return nil
}

// withTimes adds the bounds of a request to a filter and makes its buckets. now is when the first call came.
func withTimes(filter *compiled, req *audittrailv1.AggregateEventsRequest, now time.Time) (*compiled, *histogram, error) {
	var tests []*node
	bound := func(c compare, at time.Time) {
		tests = append(tests, &node{kind: nodeTest, test: test{field: fieldOccurredAt, compare: c, time: at}})
	}
	var buckets *histogram
	end := req.GetEndTime()
	if width := req.GetBucketWidth().AsDuration(); width > 0 {
		start := req.GetStartTime().AsTime()
		if end == nil {
			seconds := int64(width / time.Second)
			end = timestamppb.New(time.Unix(floorTo(now.Unix(), seconds)+seconds, 0))
			if !start.Before(end.AsTime()) {
				return nil, nil, invalid("start_time", "is in the future, where no bucket is: give an end_time")
			}
		}
		if buckets = newHistogram(start, end.AsTime(), width); buckets == nil {
			return nil, nil, invalid("bucket_width", "gives more than %d buckets; expected a greater width, or times nearer to each other", maxHistogram)
		}
	}
	if req.GetStartTime() != nil {
		bound(compareGreaterEqual, req.GetStartTime().AsTime())
	}
	if end != nil {
		bound(compareLess, end.AsTime())
	}
	if len(tests) == 0 {
		return filter, buckets, nil
	}
	return filter.filter.and(&Filter{root: join(nodeAnd, tests...)}).compile(), buckets, nil
}

// aggregateBound is what a token of a request is bound to: all of it.
func aggregateBound(ctx context.Context, req *audittrailv1.AggregateEventsRequest) ([]string, error) {
	whole := req.CloneVT()
	whole.PageToken, whole.Explain = "", false
	text, err := whole.MarshalVT() // without maps it is the same for the same request
	return []string{string(text), principal(ctx)}, err
}

// message is what was counted. It is exact if nothing had to be dropped.
func (t *tally) message(size int) *audittrailv1.AggregateEventsResponse {
	resp := &audittrailv1.AggregateEventsResponse{Count: t.count, Exact: true}
	if h := t.buckets; h != nil {
		for i, n := range h.counts {
			if n > 0 {
				start := timestamppb.New(time.Unix(h.first+int64(i)*h.width, 0))
				resp.Buckets = append(resp.Buckets, &audittrailv1.TimeBucket{StartTime: start, Count: n})
			}
		}
	}
	for _, f := range t.facets {
		m := f.message(size, maxPageBytes/maxFacets)
		resp.Facets = append(resp.Facets, m)
		resp.Exact = resp.Exact && m.MaxUndercount == 0
	}
	return resp
}
