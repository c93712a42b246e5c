package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func start(t *testing.T, arguments ...string) (*engine, *httptest.Server) {
	t.Helper()
	c, err := parse(append([]string{"serve", "/models/x", "--served-model-name", "triage"}, arguments...))
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(c, nil)
	server := httptest.NewServer(e.routes())
	t.Cleanup(server.Close)
	return e, server
}

func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s answered %d", url, response.StatusCode)
	}
	return string(content)
}

func TestParseAcceptsPodFlagsAndIgnoresOthers(t *testing.T) {
	c, err := parse([]string{"serve", "/models/x", "--served-model-name", "triage", "--port=8123", "--shutdown-timeout", "35",
		"--enforce-eager", "--max-model-len", "64", "--host", "127.0.0.1", "--error_rate", "0.25",
		"--middleware=serin_model_server.Middleware", "--first-token-delay", "0.2", "--fail-on", "printer",
		"--hang-rate", "0.1", "--stall-rate=0.2", "--refuse-rate", "0.3", "--slots", "4", "--time-per-token", "0.01",
		"--load-slowdown", "0.015", "--speed", "0.5", "--spread", "0.3"})
	if err != nil {
		t.Fatal(err)
	}
	want := config{model: "triage", host: "127.0.0.1", port: 8123, shutdownTimeout: 35 * time.Second, errorStatus: 500,
		rates: [fateCount]float64{failed: 0.25, hung: 0.1, stalled: 0.2, refused: 0.3}, slots: 4, firstTokenDelay: 200 * time.Millisecond,
		timePerToken: 10 * time.Millisecond, loadSlowdown: 0.015, speed: 0.5, spread: 0.3, failOn: "printer"}
	if c != want {
		t.Errorf("got %+v, want %+v", c, want)
	}
}

func TestStatusWithoutRateFailsAllRequests(t *testing.T) {
	c, err := parse([]string{"x", "--status", "503"})
	if err != nil || c.rates[failed] != 1 || c.errorStatus != 503 {
		t.Errorf("got %+v and %v", c, err)
	}
}

func TestInvalidCommandLinesAreRejected(t *testing.T) {
	for _, arguments := range [][]string{{}, {"x", "--port", "many"}, {"x", "--error-rate", "2"}, {"x", "--status", "200"}, {"x", "--first-token-delay", "-1"},
		{"x", "--hang-rate", "0.6", "--refuse-rate", "0.6"}, {"x", "--speed", "0"}, {"x", "--slots", "1.5"}, {"x", "--time-per-token", "NaN"}} {
		if _, err := parse(arguments); err == nil {
			t.Errorf("%v was accepted", arguments)
		}
	}
}

func TestAnswersHaveOpenAIFormat(t *testing.T) {
	_, server := start(t)
	status, body := post(t, server.URL+chatPath, `{"model":"triage","messages":[{"role":"user","content":"vpn"}]}`)
	var chat struct {
		Model   string
		Choices []struct {
			Message      struct{ Content string }
			FinishReason string `json:"finish_reason"`
		}
	}
	if err := json.Unmarshal([]byte(body), &chat); err != nil || status != http.StatusOK {
		t.Fatalf("%d %v in %s", status, err, body)
	}
	if chat.Model != "triage" || chat.Choices[0].FinishReason != "stop" || chat.Choices[0].Message.Content == "" {
		t.Errorf("got %s", body)
	}
	status, body = post(t, server.URL+completionsPath, `{"model":"triage","prompt":"vpn"}`)
	if status != http.StatusOK || !strings.Contains(body, `"text":"`) {
		t.Errorf("got %d %s", status, body)
	}
}

func TestBadRequestsGetVLLMsStatus(t *testing.T) {
	_, server := start(t)
	for body, want := range map[string]int{"{": 400, `{"model":"other"}`: 404, `"` + strings.Repeat("x", largestBody+1) + `"`: 413} {
		if status, _ := post(t, server.URL+chatPath, body); status != want {
			t.Errorf("%.20s… got %d, want %d", body, status, want)
		}
	}
}

func TestErrorRateIsExact(t *testing.T) {
	_, server := start(t, "--error-rate", "0.3", "--status", "503")
	seen := map[int]int{}
	for range 100 {
		status, _ := post(t, server.URL+chatPath, `{}`)
		seen[status]++
	}
	if seen[503] != 30 || seen[200] != 70 {
		t.Errorf("got %v", seen)
	}
}

func TestFailOnFailsRequestsWithTheWordOnly(t *testing.T) {
	_, server := start(t, "--fail-on", "printer")
	for ask, want := range map[string]int{"vpn": 200, "the printer": 500, "": 200} {
		if status, _ := post(t, server.URL+completionsPath, fmt.Sprintf(`{"prompt":%q}`, ask)); status != want {
			t.Errorf("%q got %d, want %d", ask, status, want)
		}
	}
}

func TestStreamHasRequestedDurationAndIsCounted(t *testing.T) {
	_, server := start(t)
	began := time.Now()
	response, err := http.Post(server.URL+chatPath, "application/json",
		strings.NewReader(`{"stream":true,"messages":[{"role":"user","content":"stream-seconds=0.7"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if !strings.Contains(get(t, server.URL+"/metrics"), `vllm:num_requests_running{engine="0",model_name="triage"} 1.0`) {
		t.Error("a running stream is not counted")
	}
	last, events := "", 0
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if data, found := strings.CutPrefix(lines.Text(), "data: "); found {
			last = data
			events++
		}
	}
	if last != "[DONE]" || events < 3 {
		t.Errorf("%d events, the last one %q", events, last)
	}
	if took := time.Since(began); took < 700*time.Millisecond {
		t.Errorf("the stream ended after %s", took)
	}
}

func TestStreamLengthPrefersHeaderAndIsLimited(t *testing.T) {
	request := httptest.NewRequest(http.MethodPost, chatPath, nil)
	if got, _ := streamLength(request, []byte("stream-seconds=3")); got != 3*time.Second {
		t.Errorf("from the prompt: %s", got)
	}
	request.Header.Set(secondsHeader, "1.5")
	if got, _ := streamLength(request, []byte("stream-seconds=3")); got != 1500*time.Millisecond {
		t.Errorf("from the header: %s", got)
	}
	request.Header.Set(secondsHeader, "1e12")
	if got, given := streamLength(request, nil); !given || got != longestStream {
		t.Errorf("without bound: %s", got)
	}
}

func TestHealthAndModelsRespond(t *testing.T) {
	_, server := start(t)
	get(t, server.URL+"/health")
	if !strings.Contains(get(t, server.URL+"/v1/models"), `"id":"triage"`) {
		t.Error("the model is not listed")
	}
}

// SIGTERM goes to the test process, in which run() has installed its signal handler.
func TestSIGTERMCompletesStreamAndClosesListener(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	ended := make(chan error, 1)
	go func() {
		ended <- run(config{model: "triage", host: "127.0.0.1", port: port, shutdownTimeout: 10 * time.Second, errorStatus: 500})
	}()
	url := "http://127.0.0.1:" + strconv.Itoa(port)
	var response *http.Response
	for deadline := time.Now().Add(5 * time.Second); ; {
		response, err = http.Post(url+chatPath, "application/json", strings.NewReader(`{"stream":true,"prompt":"stream-seconds=1"}`))
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	defer response.Body.Close()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(response.Body)
	if err != nil || !strings.HasSuffix(string(content), "data: [DONE]\n\n") {
		t.Errorf("the stream was cut: %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(port), time.Second); err == nil {
		t.Error("a drained server still accepts connections")
	}
}

// canceled is the context of a request whose client has left.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
