package faults

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
)

func (b *badInput) http(t *T) {
	event := func() []byte {
		body, err := protojson.Marshal(b.event("bad/http/prod"))
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	wrong := b.event("bad/http/prod")
	wrong.Actor.Id = chars(129)
	wrongBody, err := protojson.Marshal(wrong)
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + b.emitterHTTP[0] + "/v1/events"
	post := func(url string, header http.Header, body []byte) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		for k, v := range header {
			req.Header[k] = v
			if k == "Host" {
				req.Host = v[0]
			}
		}
		response, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text)
	}
	for _, c := range []struct {
		name   string
		header http.Header
		body   []byte
		status int
		says   string
	}{
		{"malformed JSON", nil, []byte(`{"source":"bad/http/prod",`), 400, ""},
		{"no JSON", nil, []byte("source=bad"), 400, ""},
		{"empty body", nil, nil, 400, ""},
		{"a misspelt field", nil, []byte(`{"source":"bad/http/prod","action":"a.b","actr":{"id":"x"}}`), 400, "actr"},
		{"a value of the wrong type", nil, []byte(`{"source":"bad/http/prod","action":7}`), 400, ""},
		{"text that is not UTF-8", nil, []byte("{\"source\":\"bad/http/prod\",\"action\":\"a.b\",\"reason\":\"\xff\"}"), 400, ""},
		{"an event over a limit", nil, wrongBody, 400, "event.actor.id"},
		{"wrong Content-Type", http.Header{"Content-Type": {"text/plain"}}, event(), 415, "application/json"},
		{"a form", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, event(), 415, "application/json"},
		{"no Content-Type", http.Header{"Content-Type": nil}, event(), 415, "application/json"},
		{"compressed body", http.Header{"Content-Encoding": {"gzip"}}, event(), 415, ""},
		{"foreign Origin", http.Header{"Origin": {"https://evil.example"}}, event(), 403, "origin"},
		{"no real Origin", http.Header{"Origin": {"null"}}, event(), 403, "origin"},
		{"cross-site fetch", http.Header{"Sec-Fetch-Site": {"cross-site"}}, event(), 403, "origin"},
		{"foreign Host", http.Header{"Host": {"evil.example"}}, event(), 403, "Host"},
		{"body over 4 MiB", nil, []byte(`{"source":"bad/http/prod","action":"a.b","details":"` + chars(4<<20) + `"}`), 413, "4 MiB"},
	} {
		code, text := post(url, c.header, c.body)
		if code != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: answered %d %.200s; want %d with %q", c.name, code, text, c.status, c.says)
		}
		var body struct {
			Code    int
			Message string
		}
		if err := json.Unmarshal([]byte(text), &body); err != nil || body.Message == "" || body.Code == 0 {
			t.Errorf("%s: the answer is no error in JSON: %.200q", c.name, text)
		}
	}
	// And what is right goes through the same door, also from a page of its own.
	for _, header := range []http.Header{nil, {"Origin": {"http://" + b.emitterHTTP[0]}}} {
		e := b.event("bad/http/prod")
		body, err := protojson.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		code, text := post(url, header, body)
		var answer struct{ ID string }
		if err := json.Unmarshal([]byte(text), &answer); code != 200 || err != nil {
			t.Fatalf("a good event is answered with %d %s", code, text)
		}
		b.acked(t, e, answer.ID)
	}
}
