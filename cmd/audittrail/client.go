package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/internal/grpccodec"
	"github.com/maxviazov/audittrail/internal/tlsfiles"
)

const defaultAddr = "127.0.0.1:7480"

// addAddr adds the flags that say where the server is, and how to connect to it: where `all`, or the role that the command needs, serves gRPC.
func addAddr(cmd *cobra.Command) {
	addr := os.Getenv("AUDITTRAIL_ADDR")
	if addr == "" {
		addr = defaultAddr
	}
	flags := cmd.PersistentFlags()
	flags.String("addr", addr, "gRPC `address` of 'all', or of the role this command needs [AUDITTRAIL_ADDR]")
	flags.Bool("tls", os.Getenv("AUDITTRAIL_CLIENT_TLS") == "true", "connect with TLS; implied by the flags below [AUDITTRAIL_CLIENT_TLS]")
	flags.String("ca", os.Getenv("AUDITTRAIL_CLIENT_CA"), "PEM `file` with the CAs of the server's certificate; empty: those of the system [AUDITTRAIL_CLIENT_CA]")
	flags.String("cert", os.Getenv("AUDITTRAIL_CLIENT_CERT"), "PEM `file` with the certificate to show to the server [AUDITTRAIL_CLIENT_CERT]")
	flags.String("key", os.Getenv("AUDITTRAIL_CLIENT_KEY"), "PEM `file` with its private key [AUDITTRAIL_CLIENT_KEY]")
	flags.String("server-name", os.Getenv("AUDITTRAIL_CLIENT_SERVER_NAME"), "`name` that the server's certificate must have; empty: the host of the address [AUDITTRAIL_CLIENT_SERVER_NAME]")
	flags.String("token-file", os.Getenv("AUDITTRAIL_CLIENT_TOKEN_FILE"), "`file` with an API token or an OIDC token [AUDITTRAIL_CLIENT_TOKEN_FILE]")
}

// bearer shows an API token or an OIDC token. The file is read for each call: tokens are short-lived, and a stream of commands is not.
type bearer struct {
	file      string
	encrypted bool
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := config.ReadSecret(b.file)
	if err != nil {
		return nil, fmt.Errorf("--token-file: %w", err)
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (b bearer) RequireTransportSecurity() bool { return b.encrypted }

// clientToken are the options that show the token of --token-file. It never leaves this machine in the clear.
func clientToken(cmd *cobra.Command, addr string, creds credentials.TransportCredentials) ([]grpc.DialOption, error) {
	file, err := cmd.Flags().GetString("token-file")
	if err != nil || file == "" {
		return nil, err
	}
	if _, err := config.ReadSecret(file); err != nil {
		return nil, usagef("--token-file: %w", err)
	}
	encrypted := creds.Info().SecurityProtocol == "tls"
	if loopback, err := config.IsLoopback(addr); !encrypted && (err != nil || !loopback) {
		return nil, usagef("--token-file: a token is not sent to %s without TLS; see --ca", addr)
	}
	return []grpc.DialOption{grpc.WithPerRPCCredentials(bearer{file, encrypted})}, nil
}

// connect returns a connection that is made when first used.
func connect(cmd *cobra.Command) (*grpc.ClientConn, error) {
	addr, err := cmd.Flags().GetString("addr")
	if err != nil {
		return nil, err
	}
	return dial(cmd, addr)
}

// dial is connect for another address.
func dial(cmd *cobra.Command, addr string) (*grpc.ClientConn, error) {
	creds, err := clientCredentials(cmd)
	if err != nil {
		return nil, err
	}
	options, err := clientToken(cmd, addr, creds)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(addr, append(options,
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(grpccodec.New())),
	)...)
	if err != nil {
		return nil, usagef("--addr %s: %w", addr, err)
	}
	return conn, nil
}

// clientCredentials reads the flags of TLS. None of them: plaintext.
func clientCredentials(cmd *cobra.Command) (credentials.TransportCredentials, error) {
	encrypt, err := cmd.Flags().GetBool("tls")
	if err != nil {
		return nil, err
	}
	var ca, cert, key, name string
	for flag, into := range map[string]*string{"ca": &ca, "cert": &cert, "key": &key, "server-name": &name} {
		if *into, err = cmd.Flags().GetString(flag); err != nil {
			return nil, err
		}
		encrypt = encrypt || *into != ""
	}
	if !encrypt {
		return insecure.NewCredentials(), nil
	}
	if (cert == "") != (key == "") {
		return nil, usagef("--cert and --key belong together, and one is missing")
	}
	files, err := tlsfiles.Load("client", tlsfiles.Paths{Cert: cert, Key: key, CA: ca})
	if err != nil {
		return nil, usageError{err}
	}
	return credentials.NewTLS(files.Client(name)), nil
}
