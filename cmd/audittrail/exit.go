package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/internal/embedded"
	"github.com/maxviazov/audittrail/internal/serve"
)

// Exit codes, documented by `audittrail help`.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitRefused     = 3
	exitUnavailable = 4
	exitForced      = 130
)

const exitCodeHelp = `Exit codes:
  0    success
  1    failure
  2    wrong usage or configuration
  3    refused: an event was rejected, a check found problems, or what was asked for is not there
  4    unavailable: the server, Kafka or PostgreSQL does not answer, or not in time; try again
  130  stopped at once by a second interrupt`

// usageError is wrong usage.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// refusedError says that the command did its work and the answer is no.
type refusedError struct{ error }

func refusedf(format string, args ...any) error { return refusedError{fmt.Errorf(format, args...)} }

// unavailableError says that something did not answer.
type unavailableError struct{ error }

func (e unavailableError) Unwrap() error { return e.error }

// exitCode is the one place that decides.
func exitCode(err error) int {
	var (
		usage       usageError
		problems    *config.Problems
		refused     refusedError
		unavailable unavailableError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage), errors.As(err, &problems), errors.Is(err, serve.ErrListen), errors.Is(err, embedded.ErrPortTaken):
		return exitUsage
	case errors.As(err, &refused):
		return exitRefused
	case errors.As(err, &unavailable), errors.Is(err, context.DeadlineExceeded):
		return exitUnavailable
	}
	var call interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &call) {
		return exitFailure
	}
	switch call.GRPCStatus().Code() {
	case codes.Unavailable, codes.DeadlineExceeded:
		return exitUnavailable
	case codes.ResourceExhausted:
		if retryable(call.GRPCStatus()) {
			return exitUnavailable
		}
		return exitRefused
	case codes.Unimplemented:
		return exitUsage
	case codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.PermissionDenied, codes.Unauthenticated, codes.AlreadyExists, codes.OutOfRange:
		return exitRefused
	default:
		return exitFailure
	}
}

func retryable(st *status.Status) bool {
	for _, d := range st.Details() {
		if _, ok := d.(*errdetails.RetryInfo); ok {
			return true
		}
	}
	return false
}

// describe is an error for people: of a call, each wrong field or its message.
func describe(err error) string {
	var call interface {
		error
		GRPCStatus() *status.Status
	}
	if !errors.As(err, &call) {
		return err.Error()
	}
	before, _, _ := strings.Cut(err.Error(), call.Error())
	return before + describeStatus(call.GRPCStatus())
}

// describeStatus names each wrong field, or is the message.
func describeStatus(st *status.Status) string {
	var fields []string
	for _, d := range st.Details() {
		bad, ok := d.(*errdetails.BadRequest)
		if !ok {
			continue
		}
		for _, v := range bad.FieldViolations {
			fields = append(fields, strings.TrimSpace(v.Field+" "+v.Description))
		}
	}
	if len(fields) > 0 {
		return strings.Join(fields, "; ")
	}
	text := fmt.Sprintf("%s (%s)", st.Message(), st.Code())
	switch why, ours := noConnection(st); {
	case ours:
		return fmt.Sprintf("no answer from the server: %s; does it run (audittrail all), and is --addr its gRPC address?", why)
	case st.Code() == codes.Unimplemented:
		text += "; is this the address of another role?"
	}
	return text
}

// noConnection says whether a status is not a server's answer but gRPC's own word that it reaches none, and why.
func noConnection(st *status.Status) (why string, ours bool) {
	if st.Code() != codes.Unavailable {
		return "", false
	}
	for _, prefix := range []string{`connection error: desc = `, "name resolver error: "} {
		if why, ours = strings.CutPrefix(st.Message(), prefix); ours {
			break
		}
	}
	if text, err := strconv.Unquote(why); err == nil {
		why = text
	}
	return strings.TrimPrefix(why, "transport: Error while dialing: "), ours
}
