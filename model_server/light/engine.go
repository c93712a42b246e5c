package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	answer          = `{\"queue\": \"network\", \"priority\": \"high\"}`
	largestBody     = 1 << 20
	longestStream   = 10 * time.Minute
	defaultStream   = 500 * time.Millisecond
	betweenEvents   = 100 * time.Millisecond
	secondsHeader   = "X-Stream-Seconds"
	created         = 1700000000
	completionsPath = "/v1/completions"
	chatPath        = "/v1/chat/completions"
)

// In a prompt, it sets the duration of the stream, for clients that cannot set headers.
var secondsDirective = regexp.MustCompile(`stream-seconds=([0-9]+(?:\.[0-9]+)?)`)

// Start time of the process, so that readers know since when the counters count.
var processStarted = float64(time.Now().UnixMilli()) / 1000

// engine holds the counters and the answers, which are constant and rendered once.
type engine struct {
	config
	measures  *measures
	running   atomic.Int64
	arrived   atomic.Uint64
	succeeded atomic.Uint64
	answers   map[string][]byte
}

func newEngine(c config) *engine {
	e := &engine{config: c, measures: newMeasures(), answers: map[string][]byte{}}
	usage := `"usage":{"prompt_tokens":16,"completion_tokens":12,"total_tokens":28}`
	e.answers[completionsPath] = fmt.Appendf(nil,
		`{"id":"cmpl-light","object":"text_completion","created":%d,"model":%q,"choices":[{"index":0,"text":"%s","logprobs":null,"finish_reason":"stop"}],%s}`,
		created, c.model, answer, usage)
	e.answers[chatPath] = fmt.Appendf(nil,
		`{"id":"chatcmpl-light","object":"chat.completion","created":%d,"model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":"%s"},"logprobs":null,"finish_reason":"stop"}],%s}`,
		created, c.model, answer, usage)
	return e
}

func (e *engine) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v1/models", e.models)
	mux.HandleFunc("GET /metrics", e.metrics)
	mux.HandleFunc("POST "+completionsPath, e.complete)
	mux.HandleFunc("POST "+chatPath, e.complete)
	return mux
}

func (e *engine) models(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"object":"list","data":[{"id":%q,"object":"model","created":%d,"owned_by":"light"}]}`, e.model, created)
}

// metrics prints the series that a drain and a collector read, with vLLM's names and labels.
func (e *engine) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	labels := fmt.Sprintf(`engine="0",model_name=%q`, e.model)
	fmt.Fprintf(w, "# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.\n# TYPE process_start_time_seconds gauge\n")
	fmt.Fprintf(w, "process_start_time_seconds %.3f\n", processStarted)
	fmt.Fprintf(w, "# HELP vllm:num_requests_running Requests in flight.\n# TYPE vllm:num_requests_running gauge\n")
	fmt.Fprintf(w, "vllm:num_requests_running{%s} %d.0\n", labels, e.running.Load())
	fmt.Fprintf(w, "# HELP vllm:num_requests_waiting Waiting requests; always 0 in this server.\n# TYPE vllm:num_requests_waiting gauge\n")
	fmt.Fprintf(w, "vllm:num_requests_waiting{%s} 0.0\n", labels)
	fmt.Fprintf(w, "# HELP vllm:request_success_total Requests with a complete response.\n# TYPE vllm:request_success_total counter\n")
	fmt.Fprintf(w, "vllm:request_success_total{%s,finished_reason=\"stop\"} %d.0\n", labels, e.succeeded.Load())
	e.measures.write(w)
}

// failsNow spreads failures evenly: of any N requests in a row, errorRate x N fail, plus or minus one. Not random.
func (e *engine) failsNow() bool {
	n := float64(e.arrived.Add(1))
	return int64(n*e.errorRate) > int64((n-1)*e.errorRate)
}

func (e *engine) complete(w http.ResponseWriter, r *http.Request) {
	e.running.Add(1)
	defer e.running.Add(-1)
	request := e.measures.begin(r.Header)
	// The outcome if the client disconnects.
	outcome := "excluded"
	defer func() { request.end(outcome) }()
	refuse := func(w http.ResponseWriter, status int, message string) {
		outcome = outcomeOf(status)
		refuse(w, status, message)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, largestBody))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "the body cannot be read or is larger than 1 MiB: send a smaller one")
		return
	}
	var asked struct {
		Model  string `json:"model"`
		Stream bool   `json:"stream"`
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		refuse(w, http.StatusBadRequest, "the body is not JSON: "+err.Error())
		return
	}
	if asked.Model != "" && asked.Model != e.model {
		refuse(w, http.StatusNotFound, "the model "+asked.Model+" is not served here: ask for "+e.model)
		return
	}
	if e.failsNow() || e.failOn != "" && bytes.Contains(body, []byte(e.failOn)) {
		refuse(w, e.errorStatus, "this server was told to fail with this status")
		return
	}
	if !e.waitForFirstToken(r) {
		return
	}
	request.firstToken()
	if asked.Stream {
		if e.stream(w, r, streamLength(r, body)) {
			outcome = "ok"
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(e.answers[r.URL.Path]); err == nil {
		e.succeeded.Add(1)
		outcome = "ok"
	}
}

// waitForFirstToken delays the response by firstTokenDelay; it returns false if the client disconnects meanwhile.
func (e *engine) waitForFirstToken(r *http.Request) bool {
	if e.firstTokenDelay <= 0 {
		return true
	}
	timer := time.NewTimer(e.firstTokenDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// stream sends an event every 100 ms for the given time, then the finish reason and [DONE]. It returns false if the
// response could not be completed.
func (e *engine) stream(w http.ResponseWriter, r *http.Request, length time.Duration) bool {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	control := http.NewResponseController(w)
	send := func(data string) bool {
		if _, err := io.WriteString(w, "data: "+data+"\n\n"); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	end := time.After(length)
	tick := time.NewTicker(betweenEvents)
	defer tick.Stop()
	for n := 0; ; n++ {
		if !send(e.event(r.URL.Path, "w"+strconv.Itoa(n)+" ", "null")) {
			return false
		}
		select {
		case <-tick.C:
			continue
		case <-r.Context().Done():
			return false
		case <-end:
		}
		break
	}
	if send(e.event(r.URL.Path, "", `"stop"`)) && send("[DONE]") {
		e.succeeded.Add(1)
		return true
	}
	return false
}

func (e *engine) event(path, text, finish string) string {
	if path == chatPath {
		return fmt.Sprintf(`{"id":"chatcmpl-light","object":"chat.completion.chunk","created":%d,"model":%q,"choices":[{"index":0,"delta":{"content":%q},"finish_reason":%s}]}`, created, e.model, text, finish)
	}
	return fmt.Sprintf(`{"id":"cmpl-light","object":"text_completion","created":%d,"model":%q,"choices":[{"index":0,"text":%q,"finish_reason":%s}]}`, created, e.model, text, finish)
}

// streamLength is the duration of the stream from the header or else from the prompt, within limits.
func streamLength(r *http.Request, body []byte) time.Duration {
	wanted := r.Header.Get(secondsHeader)
	if wanted == "" {
		if found := secondsDirective.FindSubmatch(body); found != nil {
			wanted = string(found[1])
		}
	}
	seconds, err := strconv.ParseFloat(wanted, 64)
	if err != nil || !(seconds >= 0) {
		return defaultStream
	}
	// The limit is applied before the conversion, which would overflow for a large number.
	return time.Duration(min(seconds, longestStream.Seconds()) * float64(time.Second))
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"message":%q,"type":%q,"code":%d}}`, message, http.StatusText(status), status)
}
