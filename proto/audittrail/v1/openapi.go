package audittrailv1

import _ "embed"

// OpenAPI is the OpenAPI v2 document of the HTTP/JSON side of all services, made from the .proto files.
//
//go:embed audittrail.swagger.json
var OpenAPI []byte
