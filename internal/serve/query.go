package serve

import (
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/proto"
)

// strictQuery refuses parameters that the request does not have. grpc-gateway passes over them, and a misspelt filter would then list everything.
type strictQuery struct{ runtime.DefaultQueryParser }

// beStrict makes it the parser. grpc-gateway has one for the whole program, set by the option of any mux: once, so that no request reads it meanwhile.
var beStrict = sync.OnceFunc(func() { runtime.NewServeMux(runtime.SetQueryParameterParser(&strictQuery{})) })

func (p *strictQuery) Parse(msg proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	fields := msg.ProtoReflect().Descriptor().Fields()
	for key := range values {
		name, _, _ := strings.Cut(key, ".") // the parser itself judges what is further down, and indexes of maps
		name, _, _ = strings.Cut(name, "[")
		if fields.ByTextName(name) == nil && fields.ByJSONName(name) == nil {
			return fmt.Errorf("unknown parameter %q; see /openapi.json", key)
		}
	}
	return p.DefaultQueryParser.Parse(msg, values, filter)
}
