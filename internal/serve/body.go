package serve

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	// maxBodies is how many requests with a body may be in progress: with MaxRequestBytes it bounds their memory.
	maxBodies = 32
	// bodyTimeout bounds how long a client may take to send a body.
	bodyTimeout = 30 * time.Second
)

// readBody checks and reads the body of a request before anything else sees it: JSON, at most MaxRequestBytes, within bodyTimeout, at most
// maxBodies at a time. The deadline is of the body alone: a response may stream for hours.
func readBody(next http.Handler) http.Handler {
	slots := make(chan struct{}, maxBodies)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			r.Body = http.NoBody // what it carries is nobody's business
			next.ServeHTTP(w, r)
			return
		}
		if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
			httpError(w, http.StatusUnsupportedMediaType, codes.InvalidArgument, "Content-Type must be application/json")
			return
		}
		if r.Header.Get("Content-Encoding") != "" {
			httpError(w, http.StatusUnsupportedMediaType, codes.InvalidArgument, "Content-Encoding is not supported")
			return
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			w.Header().Set("Retry-After", "1")
			httpError(w, http.StatusServiceUnavailable, codes.Unavailable, "too many requests at once")
			return
		}
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // a connection always can
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequestBytes))
		_ = control.SetReadDeadline(time.Time{})
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			httpError(w, http.StatusRequestEntityTooLarge, codes.InvalidArgument, "request is larger than 4 MiB")
			return
		case err != nil:
			httpError(w, http.StatusBadRequest, codes.InvalidArgument, "request body could not be read")
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}
