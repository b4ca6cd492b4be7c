package serve

import (
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// ask does what grpcurl does: it knows nothing of our messages but what the server says.
func ask(t *testing.T, stream reflectionpb.ServerReflection_ServerReflectionInfoClient, r *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
	t.Helper()
	if err := stream.Send(r); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestReflectionDescribesWhatItThenCalls(t *testing.T) {
	r := start(t, Config{Reflection: true}, always)
	conn, err := grpc.NewClient(r.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var services []string
	for _, s := range ask(t, stream, &reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
	}).GetListServicesResponse().GetService() {
		services = append(services, s.GetName())
	}
	if !slices.Contains(services, "audittrail.v1.QueryService") || !slices.Contains(services, "audittrail.v1.EmitterService") {
		t.Errorf("services %v", services)
	}
	answer := ask(t, stream, &reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "audittrail.v1.EmitterService"},
	})
	set := new(descriptorpb.FileDescriptorSet)
	for _, raw := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
		f := new(descriptorpb.FileDescriptorProto)
		if err := proto.Unmarshal(raw, f); err != nil {
			t.Fatal(err)
		}
		set.File = append(set.File, f)
	}
	// NewFiles takes only a set that is whole: the server left out no import.
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	method := find[protoreflect.MethodDescriptor](t, files, "audittrail.v1.EmitterService.EmitEvent")
	req, resp := dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output())
	event := method.Input().Fields().ByName("event")
	source := event.Message().Fields().ByName("source")
	req.Mutable(event).Message().Set(source, protoreflect.ValueOfString("acme/web"))
	if err := conn.Invoke(t.Context(), "/audittrail.v1.EmitterService/EmitEvent", req, resp); err != nil {
		t.Fatal(err)
	}
	if got := resp.Get(method.Output().Fields().ByName("id")).String(); got != "acme/web" {
		t.Errorf("got %q", got)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
}

func find[D protoreflect.Descriptor](t *testing.T, files *protoregistry.Files, name protoreflect.FullName) D {
	t.Helper()
	d, err := files.FindDescriptorByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return d.(D)
}

func TestWithoutTheFlagThereIsNoReflection(t *testing.T) {
	r := start(t, Config{}, always)
	conn, err := grpc.NewClient(r.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v", err)
	}
}
