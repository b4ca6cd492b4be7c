package client_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/maxviazov/audittrail/emitters"
	"github.com/maxviazov/audittrail/emitters/client"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/stream"
)

// A program makes one client, emits events as they happen, and closes the client at its end, so that nothing stays in the buffer.
func Example() {
	dial, stop := startEmitter() // in a real program the emitter runs elsewhere: client.New("audittrail.internal:7480", …)
	defer stop()
	c, err := client.New("passthrough:///emitter", client.Options{
		DialOptions: dial,
		OnUndelivered: func(u client.Undelivered) {
			log.Printf("audit event %s not delivered: %v", u.ID, u.Err)
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	// Emit only puts the event into the buffer. What it returns may be ignored, but for the error.
	login := client.NewEvent("acme/payments/api", "user.login").
		Kind(audittrailv1.ActionKind_ACTION_KIND_AUTH).
		Actor("user", "u-8271").Session("s-1", "password+totp").
		From("203.0.113.7", "Mozilla/5.0").
		Denied("WrongPassword", "the password did not match").
		Build()
	if _, err := c.Emit(context.Background(), login); err != nil {
		log.Print(err) // the buffer is full, or the event breaks a limit
	}

	// Where an action must not go on unrecorded, wait for the acknowledgement.
	refund := client.NewEvent("acme/payments/api", "invoice.refund").
		Kind(audittrailv1.ActionKind_ACTION_KIND_UPDATE).
		Actor("user", "u-8271").ActorName("Ada Example").
		Resource("invoice", "inv-2026-000123", "").
		Changed("status", "paid", "refunded").
		Success().
		Build()
	delivery, err := c.Emit(context.Background(), refund)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	fmt.Println("refund recorded:", delivery.Wait(ctx) == nil)

	fmt.Println("all delivered:", c.Close(ctx) == nil)
	// Output:
	// refund recorded: true
	// all delivered: true
}

// An event that a program may emit twice, because it crashed half-way for example, gets its own key and time. Source, key and time are
// the event's identity: it is recorded once, and its id is known before it is sent.
func ExampleBuilder_Key() {
	payout := client.NewEvent("acme/payments/batch", "payout.sent").
		Key("payout-2026-03-01-00042").
		At(time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)).
		Success().
		Build()
	id, ok := client.ID(payout)
	fmt.Println(id, ok)
	// Output: 019ca78d-9600-7576-b238-d3c7dd958e5f true
}

// A program that must not lose events without noticing asks for what was given up, and keeps it elsewhere.
func ExampleOptions_onUndelivered() {
	kept := make(chan client.Undelivered, 1)
	c, err := client.New("127.0.0.1:1", client.Options{ // nobody listens there
		DialOptions:     []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
		DeliveryTimeout: 300 * time.Millisecond,
		OnUndelivered:   func(u client.Undelivered) { kept <- u },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Emit(context.Background(), client.NewEvent("acme/payments/api", "user.login").Build()); err != nil {
		log.Fatal(err)
	}
	u := <-kept
	fmt.Println(u.Event.Action, "given up; it can be emitted again as it is")
	// Output: user.login given up; it can be emitted again as it is
}

// startEmitter runs a broker and an emitter in this process.
func startEmitter() (dial []grpc.DialOption, stop func()) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		log.Fatal(err)
	}
	kafka := stream.Settings{Brokers: broker.ListenAddrs()}
	if err := stream.Apply(context.Background(), kafka, stream.SingleBrokerLayout(), zerolog.Nop()); err != nil {
		log.Fatal(err)
	}
	server, err := emitters.NewServer(emitters.Config{}, emitters.Deps{
		Publisher: emitters.NewGokaPublisher(kafka, zerolog.Nop()), Registerer: prometheus.NewRegistry()})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- server.Run(ctx) }()
	listener := bufconn.Listen(1 << 20)
	g := grpc.NewServer(emitters.GRPCOptions()...)
	audittrailv1.RegisterEmitterServiceServer(g, server)
	go g.Serve(listener)
	dial = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) })}
	return dial, func() {
		cancel()
		if err := <-ended; err != nil {
			log.Print(err)
		}
		g.Stop()
		broker.Close()
	}
}
