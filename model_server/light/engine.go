package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	rightAnswer     = `{\"queue\": \"network\", \"priority\": \"high\"}`
	wrongAnswer     = `{\"team\": \"network\", \"urgency\": \"high\"}` // it fails the checks
	largestBody     = 1 << 20
	longestStream   = 10 * time.Minute
	defaultStream   = 500 * time.Millisecond
	betweenEvents   = 100 * time.Millisecond
	beforeStream    = 20 * time.Millisecond
	secondsHeader   = "X-Stream-Seconds"
	created         = 1700000000
	promptTokens    = 16
	defaultTokens   = 12
	mostTokens      = 4096
	mostInFlight    = 20_000
	completionsPath = "/v1/completions"
	chatPath        = "/v1/chat/completions"
)

// In a prompt, it sets the duration of the stream, for clients that cannot set headers.
var secondsDirective = regexp.MustCompile(`stream-seconds=([0-9]+(?:\.[0-9]+)?)`)

// Start time of the process, so that readers know since when the counters count.
var processStarted = float64(time.Now().UnixMilli()) / 1000

// engine holds the counters and the answers, which are constant and rendered once, up to the number of tokens.
type engine struct {
	config
	split     *split
	measures  *measures
	pace      *pace
	fates     fates
	running   atomic.Int64
	succeeded atomic.Uint64
	closing   atomic.Bool // whether requests in flight are being aborted
	answers   map[answerKind][]byte
}

type answerKind struct {
	path  string
	wrong bool
}

func newEngine(c config, s *split) *engine {
	e := &engine{config: c, split: s, measures: newMeasures(s, time.Now), pace: paceOf(c), answers: map[answerKind][]byte{}}
	e.fates.rates = c.rates
	e.measures.failRate = c.checkFailRate
	for text, wrong := range map[string]bool{rightAnswer: false, wrongAnswer: true} {
		e.answers[answerKind{completionsPath, wrong}] = fmt.Appendf(nil,
			`{"id":"cmpl-light","object":"text_completion","created":%d,"model":%q,"choices":[{"index":0,"text":"%s","logprobs":null,"finish_reason":"stop"}],`,
			created, c.model, text)
		e.answers[answerKind{chatPath, wrong}] = fmt.Appendf(nil,
			`{"id":"chatcmpl-light","object":"chat.completion","created":%d,"model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":"%s"},"logprobs":null,"finish_reason":"stop"}],`,
			created, c.model, text)
	}
	return e
}

func (e *engine) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", e.health)
	mux.HandleFunc("GET /v1/models", e.models)
	mux.HandleFunc("GET /metrics", e.metrics)
	mux.HandleFunc("POST "+completionsPath, e.complete)
	mux.HandleFunc("POST "+chatPath, e.complete)
	return mux
}

// health fails only the readiness probe, which asks for the split, and only until there was a document.
func (e *engine) health(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("split") && e.split != nil && e.split.document() == nil {
		refuse(w, http.StatusServiceUnavailable, "no split document was loaded: see the log, and the ConfigMap of this engine revision")
	}
}

func (e *engine) models(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"object":"list","data":[{"id":%q,"object":"model","created":%d,"owned_by":"light"}]}`, e.model, created)
}

// metrics prints the series that a drain and a collector read, with vLLM's names and labels.
func (e *engine) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	labels := fmt.Sprintf(`engine="0",model_name=%q`, e.model)
	waiting := e.pace.waiting.Load()
	fmt.Fprintf(w, "# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.\n# TYPE process_start_time_seconds gauge\n")
	fmt.Fprintf(w, "process_start_time_seconds %.3f\n", processStarted)
	fmt.Fprintf(w, "# HELP vllm:num_requests_running Requests in flight that do not wait.\n# TYPE vllm:num_requests_running gauge\n")
	fmt.Fprintf(w, "vllm:num_requests_running{%s} %d.0\n", labels, max(0, e.running.Load()-waiting))
	fmt.Fprintf(w, "# HELP vllm:num_requests_waiting Requests that wait for a slot.\n# TYPE vllm:num_requests_waiting gauge\n")
	fmt.Fprintf(w, "vllm:num_requests_waiting{%s} %d.0\n", labels, waiting)
	fmt.Fprintf(w, "# HELP vllm:request_success_total Requests with a complete response.\n# TYPE vllm:request_success_total counter\n")
	fmt.Fprintf(w, "vllm:request_success_total{%s,finished_reason=\"stop\"} %d.0\n", labels, e.succeeded.Load())
	e.measures.write(w)
}

// exchange is one request in flight and the writer of its response, which notes when bytes of the body are sent.
type exchange struct {
	http.ResponseWriter
	measured *measured
	status   int // 0 before the response has begun
	broken   bool
}

func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) Write(data []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := x.ResponseWriter.Write(data)
	if err != nil {
		x.broken = true
	} else if n > 0 {
		x.measured.sent()
	}
	return n, err
}

// Unwrap lets http.ResponseController flush.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// asked is the part of a request's body that matters here.
type asked struct {
	Model       string `json:"model"`
	Stream      bool   `json:"stream"`
	Tokens      *int   `json:"max_tokens"`
	OtherTokens *int   `json:"max_completion_tokens"`
	tokens      int
	duration    time.Duration // of the stream; 0 if its tokens take their own time
}

func (e *engine) complete(w http.ResponseWriter, r *http.Request) {
	meant := e.fates.next()
	if meant == refused {
		reset(w)
		return
	}
	now := e.running.Add(1)
	defer e.running.Add(-1)
	x := &exchange{ResponseWriter: w, measured: e.measures.begin(r.Header)}
	completed := false
	defer func() { x.measured.end(e.outcome(x, r, completed)) }()
	if d := x.measured.document; d != nil && d.reveal && x.measured.pair.identity.revision != none {
		w.Header().Set(revisionHeader, x.measured.pair.identity.revision)
		if prompt := d.promptOf(x.measured.pair.identity.revision); prompt != "" {
			w.Header().Set(promptHeader, prompt)
		}
	}
	if now > mostInFlight {
		refuse(x, http.StatusServiceUnavailable, "too many requests are in flight: send fewer at a time")
		return
	}
	if meant == hung {
		// Unless its body is read to the end, the server does not see that the client leaves.
		if _, err := io.Copy(io.Discard, http.MaxBytesReader(x, r.Body, largestBody)); err != nil {
			x.broken = true
			return
		}
		<-r.Context().Done()
		return
	}
	if ask, body, valid := e.read(x, r); valid {
		if meant == failed || e.failOn != "" && bytes.Contains(body, []byte(e.failOn)) {
			refuse(x, e.errorStatus, "this server was told to fail with this status")
			return
		}
		completed = e.reply(x, r, ask, meant == stalled)
	}
}

// outcome is how a request has ended. A failure that the client was told stays one when the client leaves.
func (e *engine) outcome(x *exchange, r *http.Request, completed bool) string {
	switch {
	case x.status != 0 && x.status != http.StatusOK:
		return outcomeOf(x.status)
	case completed:
		return ok
	case e.closing.Load():
		return aborted
	case x.broken || r.Context().Err() != nil:
		return x.measured.left()
	case x.status == http.StatusOK:
		return streamError
	}
	return serverError
}

// read returns what the client asks for; if that cannot be served, it has refused the request.
func (e *engine) read(x *exchange, r *http.Request) (ask asked, body []byte, valid bool) {
	body, err := io.ReadAll(http.MaxBytesReader(x, r.Body, largestBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		refuse(x, http.StatusRequestEntityTooLarge, "the body is larger than 1 MiB: send a smaller one")
		return ask, nil, false
	}
	if err != nil {
		x.broken = true
		return ask, nil, false
	}
	if err := json.Unmarshal(body, &ask); err != nil {
		refuse(x, http.StatusBadRequest, "the body is not JSON: "+err.Error())
		return ask, nil, false
	}
	if ask.Model != "" && ask.Model != e.model {
		refuse(x, http.StatusNotFound, "the model "+ask.Model+" is not served here: ask for "+e.model)
		return ask, nil, false
	}
	ask.tokens = defaultTokens
	for _, wanted := range []*int{ask.Tokens, ask.OtherTokens} {
		if wanted != nil {
			ask.tokens = min(*wanted, mostTokens)
		}
	}
	if ask.tokens < 1 {
		refuse(x, http.StatusBadRequest, "max_tokens is not above 0: ask for at least one token")
		return ask, nil, false
	}
	if length, given := streamLength(r, body); given || e.timePerToken == 0 {
		ask.duration = length
	}
	return ask, body, true
}

// reply computes the answer and sends it; it returns whether the answer is complete.
func (e *engine) reply(x *exchange, r *http.Request, ask asked, stalls bool) bool {
	ctx := r.Context()
	if !e.pace.enter(ctx) {
		return false
	}
	defer e.pace.leave()
	x.measured.scheduled = x.measured.mark()
	if !e.pace.computeFirst(ctx) {
		return false
	}
	// A proxy of Go's net/http, such as Traefik, may cut an answer that begins before it has seen the end of the request
	// (golang/go#15527). No real engine is that fast.
	if ask.Stream && !waitUntil(ctx, time.Now().Add(beforeStream)) {
		return false
	}
	x.measured.first = x.measured.mark()
	send := func(text, finish string) bool { return true }
	if ask.Stream {
		x.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		control := http.NewResponseController(x)
		send = func(text, finish string) bool {
			_, err := fmt.Fprintf(x, "data: %s\n\n", e.event(r.URL.Path, text, finish))
			return err == nil && control.Flush() == nil
		}
	}
	if !send(word(0), "null") {
		return false
	}
	if stalls {
		<-ctx.Done()
		return false
	}
	tokens, computed := e.generate(ctx, ask, func(n int) bool { return send(word(n), "null") })
	if !computed {
		return false
	}
	x.measured.last, x.measured.tokens = x.measured.mark(), tokens
	wrong := x.measured.chooseAnswer()
	if ask.Stream {
		if !send("", `"stop"`) {
			return false
		}
		_, err := io.WriteString(x, "data: [DONE]\n\n")
		computed = err == nil
	} else {
		x.Header().Set("Content-Type", "application/json")
		text := fmt.Appendf(bytes.Clone(e.answers[answerKind{r.URL.Path, wrong}]), `"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}`,
			promptTokens, tokens, promptTokens+tokens)
		_, err := x.Write(text)
		computed = err == nil
	}
	if computed {
		e.succeeded.Add(1)
	}
	return computed
}

// generate computes all tokens after the first one and passes the number of each on. It returns the number of all, and
// whether it got to the end.
func (e *engine) generate(ctx context.Context, ask asked, token func(n int) bool) (int, bool) {
	now := time.Now()
	end, due := now.Add(longestStream), now
	if ask.Stream && ask.duration > 0 {
		// For so long, a token every 100 ms.
		end = now.Add(ask.duration)
		for n := 1; ; n++ {
			due = due.Add(betweenEvents)
			if !due.Before(end) {
				return n, waitUntil(ctx, end)
			}
			if !waitUntil(ctx, due) || !token(n) {
				return n, false
			}
		}
	}
	if e.pace.perToken == 0 {
		return ask.tokens, ctx.Err() == nil
	}
	step := vary(e.pace.perToken, e.pace.spread*tokenShare)
	for n := 1; n < ask.tokens && due.Before(end); n++ {
		due = due.Add(e.pace.delay(step))
		if !waitUntil(ctx, due) || !token(n) {
			return n, false
		}
	}
	return ask.tokens, true
}

func word(n int) string { return "w" + strconv.Itoa(n) + " " }

func (e *engine) event(path, text, finish string) string {
	if path == chatPath {
		return fmt.Sprintf(`{"id":"chatcmpl-light","object":"chat.completion.chunk","created":%d,"model":%q,"choices":[{"index":0,"delta":{"content":%q},"finish_reason":%s}]}`, created, e.model, text, finish)
	}
	return fmt.Sprintf(`{"id":"cmpl-light","object":"text_completion","created":%d,"model":%q,"choices":[{"index":0,"text":%q,"finish_reason":%s}]}`, created, e.model, text, finish)
}

// streamLength is the duration of the stream from the header or else from the prompt, within limits, and whether one of
// them has it.
func streamLength(r *http.Request, body []byte) (time.Duration, bool) {
	wanted := r.Header.Get(secondsHeader)
	if wanted == "" {
		if found := secondsDirective.FindSubmatch(body); found != nil {
			wanted = string(found[1])
		}
	}
	seconds, err := strconv.ParseFloat(wanted, 64)
	if err != nil || !(seconds >= 0) {
		return defaultStream, false
	}
	// The limit is applied before the conversion, which would overflow for a large number.
	return time.Duration(min(seconds, longestStream.Seconds()) * float64(time.Second)), true
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"message":%q,"type":%q,"code":%d}}`, message, http.StatusText(status), status)
}
