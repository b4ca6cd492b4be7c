package views

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// retryAfter is what RetryInfo tells callers when a part is away.
const retryAfter = time.Second

// errDamaged says that the store contradicts itself: a row of `events` without its entry, an entry that does not decode.
var errDamaged = errors.New("store is damaged")

// invalid is INVALID_ARGUMENT with the field and what is wrong with it.
func invalid(field, format string, args ...any) error {
	description := fmt.Sprintf(format, args...)
	return withDetails(codes.InvalidArgument, field+": "+description, &errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: description}},
	})
}

// unavailable is UNAVAILABLE with RetryInfo.
func unavailable(format string, args ...any) error {
	return withDetails(codes.Unavailable, fmt.Sprintf(format, args...), &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
}

func withDetails(code codes.Code, message string, details ...protoadapt.MessageV1) error {
	s := status.New(code, message)
	if detailed, err := s.WithDetails(details...); err == nil {
		s = detailed
	}
	return s.Err()
}

// fail turns an error into what the caller is told. The cause goes to the log, and nowhere else: it may name hosts, files or
// values. An error that is a status already passes.
func (s *Server) fail(ctx context.Context, operation string, err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	if cause := ctx.Err(); cause != nil { // the caller is gone or its deadline is over
		return status.FromContextError(cause).Err()
	}
	class := classify(err)
	s.log.Warn().Err(err).Str("operation", operation).Stringer("code", class).Msg("call failed")
	switch class {
	case codes.Unavailable:
		return unavailable("the store is not reachable or too slow; try again")
	case codes.DataLoss:
		return status.Error(class, "the store is damaged; see the gateway's log")
	default:
		return status.Error(codes.Internal, "internal error; see the gateway's log")
	}
}

// classify is the one place that says what an error of PostgreSQL, Kafka or the network means to a caller.
func classify(err error) codes.Code {
	var pg *pgconn.PgError
	var network net.Error
	var connect *pgconn.ConnectError
	switch {
	case errors.Is(err, errDamaged):
		return codes.DataLoss
	case errors.As(err, &pg):
		switch pg.Code[:2] {
		case "08", "53", "57": // connection, resources, operator intervention (shutdown, time-out)
			return codes.Unavailable
		}
		switch pg.Code {
		case "40001", "40P01", "55P03": // serialization, deadlock, lock not available
			return codes.Unavailable
		}
		return codes.Internal
	case errors.As(err, &connect), errors.As(err, &network), errors.Is(err, context.DeadlineExceeded), errors.Is(err, net.ErrClosed),
		pgconn.SafeToRetry(err), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return codes.Unavailable
	default:
		return codes.Internal
	}
}
