package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func newEventsAggregate() *cobra.Command {
	var o aggregateOptions
	cmd := &cobra.Command{Use: "aggregate", Short: "Show a histogram over time and the most frequent values of fields", Args: noArgs,
		Long: `Summarizes the events that a filter accepts: how many there are in each bucket of time, and the most frequent values of fields.

  audittrail events aggregate --filter 'outcome=denied' --since 24h --bucket 1h --facet actor.id --facet action

What takes long is asked for by several calls and added up; --first makes one only. Standard error says when numbers are not exact.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req, err := o.request(time.Now())
			if err != nil {
				return err
			}
			conn, err := connect(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			var how explained
			resp, exact, err := o.ask(cmd.Context(), audittrailv1.NewQueryServiceClient(conn), req, &how)
			if err != nil {
				return err
			}
			sayPartial(cmd.ErrOrStderr(), resp.NextPageToken, resp.CompleteAfter)
			if !exact && resp.NextPageToken == "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "some counts of facets may be too small: a field has more values than were kept")
			}
			err = printAggregate(cmd, resp)
			how.show(cmd.ErrOrStderr())
			return err
		}}
	flags := cmd.Flags()
	flags.StringVar(&o.filter, "filter", "", "AIP-160 filter; empty: everything")
	flags.StringVar(&o.since, "since", "", "only what happened since: a duration before now, such as 24h, or a time in RFC 3339")
	flags.StringVar(&o.until, "until", "", "only what happened before: as --since")
	flags.DurationVar(&o.bucket, "bucket", 0, "width of the histogram's buckets, such as 1h; 0: no histogram; needs --since")
	flags.StringArrayVar(&o.facets, "facet", nil, "`field` whose most frequent values are shown; may be repeated")
	flags.Int32Var(&o.top, "top", 10, "how many values of each facet, 1 to 1000")
	flags.BoolVar(&o.first, "first", false, "make one call only, also when its answer is partial")
	flags.BoolVar(&o.explain, "explain", false, "say on standard error how the numbers were made")
	addOutput(cmd)
	return cmd
}

type aggregateOptions struct {
	filter, since, until string
	bucket               time.Duration
	facets               []string
	top                  int32
	first, explain       bool
}

// request reads the options. Its errors are wrong usage.
func (o *aggregateOptions) request(now time.Time) (*audittrailv1.AggregateEventsRequest, error) {
	req := &audittrailv1.AggregateEventsRequest{Filter: o.filter, Facets: o.facets, FacetSize: o.top, Explain: o.explain}
	var err error
	if req.StartTime, err = timeArgument("--since", o.since, now); err != nil {
		return nil, err
	}
	if req.EndTime, err = timeArgument("--until", o.until, now); err != nil {
		return nil, err
	}
	if o.bucket != 0 {
		if o.since == "" {
			return nil, usagef("--bucket needs --since")
		}
		req.BucketWidth = durationpb.New(o.bucket)
	}
	return req, nil
}

// timeArgument reads a time or a duration before now; nil for nothing.
func timeArgument(flag, text string, now time.Time) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return timestamppb.New(now.Add(-d)), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return nil, usagef("%s %s is neither a duration such as 24h nor a time such as 2026-01-31T12:00:00Z", flag, text)
	}
	return timestamppb.New(at), nil
}

// mergeSize is how many values of a facet are asked for when answers may have to be added up: a value that is rare in one may be frequent in the next.
const mergeSize = 1000

// ask asks until nothing is left, unless first, and adds up. The whole is exact if every part knew all values of every facet.
func (o *aggregateOptions) ask(ctx context.Context, client audittrailv1.QueryServiceClient, req *audittrailv1.AggregateEventsRequest, how *explained) (
	whole *audittrailv1.AggregateEventsResponse, exact bool, err error,
) {
	if !o.first {
		req.FacetSize = mergeSize
	}
	parts := 0
	for {
		resp, err := client.AggregateEvents(ctx, req)
		if err != nil {
			return nil, false, fmt.Errorf("aggregate events: %w", err)
		}
		how.add(resp.Explanation)
		resp.Explanation = nil
		if parts++; parts == 1 {
			whole = resp
		} else {
			addAggregate(whole, resp)
		}
		if req.PageToken = resp.NextPageToken; req.PageToken == "" || o.first {
			break
		}
	}
	exact = whole.NextPageToken == ""
	for _, f := range whole.Facets {
		exact = exact && f.MaxUndercount == 0 && (parts == 1 || f.OtherCount == 0)
		cut(f, int(o.top))
	}
	whole.Exact = exact
	return whole, exact, nil
}

// addAggregate adds what another response counted.
func addAggregate(sum, more *audittrailv1.AggregateEventsResponse) {
	sum.Count += more.Count
	sum.NextPageToken, sum.CompleteAfter = more.NextPageToken, more.CompleteAfter
	at := make(map[int64]*audittrailv1.TimeBucket)
	for _, b := range sum.Buckets {
		at[b.StartTime.GetSeconds()] = b
	}
	for _, b := range more.Buckets {
		if known := at[b.StartTime.GetSeconds()]; known != nil {
			known.Count += b.Count
		} else {
			sum.Buckets = append(sum.Buckets, b)
		}
	}
	slices.SortFunc(sum.Buckets, func(a, b *audittrailv1.TimeBucket) int {
		return cmp.Compare(a.StartTime.GetSeconds(), b.StartTime.GetSeconds())
	})
	for i, f := range sum.Facets {
		counts := make(map[string]*audittrailv1.FacetValue)
		for _, v := range f.Values {
			counts[v.Value] = v
		}
		for _, v := range more.Facets[i].Values {
			if known := counts[v.Value]; known != nil {
				known.Count += v.Count
			} else {
				f.Values = append(f.Values, v)
			}
		}
		f.OtherCount += more.Facets[i].OtherCount
		f.MissingCount += more.Facets[i].MissingCount
		f.MaxUndercount += more.Facets[i].MaxUndercount
		slices.SortFunc(f.Values, func(a, b *audittrailv1.FacetValue) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Value, b.Value))
		})
	}
}

// cut leaves the first values of a facet.
func cut(f *audittrailv1.Facet, n int) {
	if len(f.Values) <= n {
		return
	}
	for _, v := range f.Values[n:] {
		f.OtherCount += v.Count
	}
	f.Values = f.Values[:n]
}

// aggregateColumns are of rows that are facets with one value each; buckets are values of occurred_at.
var aggregateColumns = []column[*audittrailv1.Facet]{
	{"FIELD", (*audittrailv1.Facet).GetField},
	{"VALUE", func(f *audittrailv1.Facet) string { return f.Values[0].Value }},
	{"COUNT", func(f *audittrailv1.Facet) string { return strconv.FormatInt(f.Values[0].Count, 10) }},
}

// printAggregate prints the response as it is, or as a table of fields, values and counts.
func printAggregate(cmd *cobra.Command, resp *audittrailv1.AggregateEventsResponse) error {
	format, err := cmd.Flags().GetString("output")
	if err != nil {
		return err
	}
	if format != "table" && format != "csv" {
		out, err := newPrinter[*audittrailv1.AggregateEventsResponse](cmd, true, nil)
		if err != nil {
			return err
		}
		return finish(out, out.add(resp))
	}
	out, err := newPrinter(cmd, false, aggregateColumns)
	if err != nil {
		return err
	}
	row := func(field, value string, n int64) {
		if err == nil {
			err = out.add(&audittrailv1.Facet{Field: field, Values: []*audittrailv1.FacetValue{{Value: value, Count: n}}})
		}
	}
	row("(all)", "", resp.Count)
	for _, b := range resp.Buckets {
		row("occurred_at", b.StartTime.AsTime().Format(time.RFC3339), b.Count)
	}
	for _, f := range resp.Facets {
		for _, v := range f.Values {
			row(f.Field, v.Value, v.Count)
		}
		if f.OtherCount > 0 {
			row(f.Field, "(other)", f.OtherCount)
		}
		if f.MissingCount > 0 {
			row(f.Field, "(missing)", f.MissingCount)
		}
	}
	return finish(out, err)
}
