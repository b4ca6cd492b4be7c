package serve

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/maxviazov/audittrail/internal/grpccodec"
)

// serverOptions are the limits of a connection and what every call passes through.
func (s *Server) serverOptions() []grpc.ServerOption {
	m := newMetrics(s.deps.Registry)
	unary := []grpc.UnaryServerInterceptor{m.unary, s.recoverUnary}
	stream := []grpc.StreamServerInterceptor{m.stream, s.recoverStream}
	if s.deps.Gate != nil { // before everything that asks whose call it is
		unary, stream = append(unary, s.deps.Gate.Unary), append(stream, s.deps.Gate.Stream)
	}
	return []grpc.ServerOption{
		grpc.Creds(newEdge(s.cfg.TLS)),
		grpc.ForceServerCodecV2(grpccodec.New()),
		grpc.MaxRecvMsgSize(MaxRequestBytes),
		// Calls that one connection may have in progress: bounds the memory of requests that nobody has admitted yet.
		grpc.MaxConcurrentStreams(250),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 15 * time.Minute, Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// Recycle is innermost: it takes a request apart when the method is done with it.
		grpc.ChainUnaryInterceptor(append(unary, grpccodec.Recycle)...),
		grpc.ChainStreamInterceptor(append(stream, s.endWithServer)...),
	}
}

// dialSelf connects the HTTP side to the gRPC side inside the process.
func (s *Server) dialSelf() (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///in-process",
		grpc.WithContextDialer(s.dialInside),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(grpccodec.New())),
	)
	if err != nil {
		return nil, fmt.Errorf("connect http to grpc: %w", err)
	}
	return conn, nil
}

// A panic of one call is that call's INTERNAL; the stack is for the log.
func (s *Server) recoverUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer s.recovered(info.FullMethod, &err)
	return next(ctx, req)
}

func (s *Server) recoverStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer s.recovered(info.FullMethod, &err)
	return next(srv, stream)
}

func (s *Server) recovered(method string, err *error) {
	if p := recover(); p != nil {
		s.deps.Log.Error().Str("method", method).Str("panic", fmt.Sprint(p)).Bytes("stack", debug.Stack()).Msg("call panicked")
		*err = status.Error(codes.Internal, "internal error")
	}
}

// endWithServer ends a stream when the server stops: a tail has no end of its own. Streams of the emitter are drained before.
func (s *Server) endWithServer(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	err := next(srv, streamWithContext{stream, ctx})
	if s.stopping.Err() != nil && err != nil {
		return status.Error(codes.Unavailable, "the server is stopping, connect again")
	}
	return err
}

type streamWithContext struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s streamWithContext) Context() context.Context { return s.ctx }
