package main

import (
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/maxviazov/audittrail/internal/grpccodec"
)

const defaultAddr = "127.0.0.1:7480"

// addAddr adds --addr: where `all`, or the role that the command needs, serves gRPC.
func addAddr(cmd *cobra.Command) {
	addr := os.Getenv("AUDITTRAIL_ADDR")
	if addr == "" {
		addr = defaultAddr
	}
	cmd.PersistentFlags().String("addr", addr, "gRPC `address` of 'all', or of the role this command needs [AUDITTRAIL_ADDR]")
}

// connect returns a connection that is made when first used.
func connect(cmd *cobra.Command) (*grpc.ClientConn, error) {
	addr, err := cmd.Flags().GetString("addr")
	if err != nil {
		return nil, err
	}
	return dial(addr)
}

func dial(addr string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(grpccodec.New())),
	)
	if err != nil {
		return nil, usagef("--addr %s: %w", addr, err)
	}
	return conn, nil
}
