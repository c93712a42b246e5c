package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func stamped(t *testing.T, url, body string, header http.Header) int {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// leaveEarly sends a request, leaves soon after it has arrived, and waits until the server has seen that.
func leaveEarly(t *testing.T, e *engine, url, body string, header http.Header) {
	t.Helper()
	wait := func(running int64) bool {
		for range 10_000 {
			if e.running.Load() == running {
				return true
			}
			time.Sleep(time.Millisecond)
		}
		return false
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		wait(1)
		time.Sleep(30 * time.Millisecond)
		cancel()
	}()
	request, _ := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	request.Header = header
	if response, err := http.DefaultClient.Do(request); err == nil {
		if _, err = io.ReadAll(response.Body); err == nil {
			t.Fatal("an answer came")
		}
		response.Body.Close()
	}
	if !wait(0) {
		t.Fatal("the request still runs")
	}
}

func stamp(revision, epoch string) http.Header {
	return http.Header{revisionHeader: {revision}, epochHeader: {epoch}}
}

func wants(t *testing.T, page string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
	if t.Failed() {
		t.Log(page)
	}
}

func TestRequestsAreCountedByRouteHeaders(t *testing.T) {
	_, server := start(t, "--error-rate", "0.5", "--status", "503")
	for range 4 {
		stamped(t, server.URL+chatPath, `{}`, stamp("abcdef0123", "7"))
	}
	stamped(t, server.URL+chatPath, `{`, stamp("abcdef0123", "8"))
	get(t, server.URL+"/health")
	wants(t, get(t, server.URL+"/metrics"),
		`serin_requests_started_total{epoch="7",revision="abcdef0123"} 4.0`,
		`serin_requests_total{epoch="7",outcome="ok",revision="abcdef0123"} 2.0`,
		`serin_requests_total{epoch="7",outcome="server_error",revision="abcdef0123"} 2.0`,
		`serin_requests_total{epoch="7",outcome="aborted",revision="abcdef0123"} 0.0`,
		`serin_requests_total{epoch="8",outcome="rejected",revision="abcdef0123"} 1.0`,
		`serin_requests_overdue_total{epoch="7",le="30",revision="abcdef0123"} 0.0`,
		`serin_requests_settled_total{epoch="7",le="600",revision="abcdef0123"} 4.0`,
		`serin_requests_total{epoch="8",outcome="left",revision="abcdef0123"} 0.0`,
		`serin_e2e_request_latency_seconds_bucket{epoch="7",revision="abcdef0123",le="1.0"} 0.0`,
		`serin_time_to_first_token_seconds_bucket{epoch="7",revision="abcdef0123",le="0.001"} 0.0`)
}

func TestInvalidHeadersAreUnstamped(t *testing.T) {
	for _, header := range []http.Header{
		{},
		{revisionHeader: {"abcdef0123"}},
		{revisionHeader: {"abcdef0123", "abcdef0123"}, epochHeader: {"7"}},
		{revisionHeader: {"abcdef0123"}, epochHeader: {"7", "8"}},
		stamp("ABCDEF0123", "7"), stamp("abcdef012", "7"), stamp("abcdef0123\n", "7"),
		stamp("abcdef0123", "32"), stamp("abcdef0123", "07"), stamp("abcdef0123", "+7"), stamp("abcdef0123", ""),
	} {
		if got := identify(header); got != unstamped {
			t.Errorf("%v is %v", header, got)
		}
	}
	if got := identify(stamp("abcdef0123", "31")); got != (identity{"abcdef0123", "31"}) {
		t.Errorf("got %v", got)
	}
}

func TestColdRevisionIsNotTimed(t *testing.T) {
	_, server := start(t, "--first-token-delay", "0.03")
	for range coldRequests + 2 {
		stamped(t, server.URL+chatPath, `{}`, stamp("abcdef0123", "7"))
	}
	wants(t, get(t, server.URL+"/metrics"),
		`serin_requests_total{epoch="7",outcome="ok",revision="abcdef0123"} 22.0`,
		`serin_request_time_per_output_token_seconds_bucket{epoch="7",revision="abcdef0123",le="0.01"} 2.0`,
		`serin_request_queue_time_seconds_count{epoch="7",revision="abcdef0123"} 2.0`,
		`serin_time_to_first_token_seconds_count{epoch="7",revision="abcdef0123"} 2.0`,
		`serin_time_to_first_token_seconds_bucket{epoch="7",revision="abcdef0123",le="0.02"} 0.0`,
		`serin_time_to_first_token_seconds_bucket{epoch="7",revision="abcdef0123",le="+Inf"} 2.0`,
		`serin_e2e_request_latency_seconds_count{epoch="7",revision="abcdef0123"} 2.0`)
}

func TestClientThatLeavesSoonHasLeft(t *testing.T) {
	e, server := start(t, "--first-token-delay", "30")
	leaveEarly(t, e, server.URL+chatPath, `{}`, stamp("abcdef0123", "7"))
	wants(t, get(t, server.URL+"/metrics"), `serin_requests_total{epoch="7",outcome="left",revision="abcdef0123"} 1.0`)
}

func TestNumberOfSeriesIsLimited(t *testing.T) {
	m := newMeasures(nil, time.Now)
	busy := m.begin(stamp("0000000000", "0"))
	for n := range 1000 {
		m.begin(stamp(fmt.Sprintf("%010x", n+1), "1")).end("excluded")
	}
	if len(m.pairs) != maxPairs-1 || len(m.warm) > maxPairs {
		t.Errorf("%d pairs, %d revisions", len(m.pairs), len(m.warm))
	}
	if m.pairs[identity{"0000000000", "0"}] != busy.pair {
		t.Error("a pair went that has a request in flight")
	}
	var page bytes.Buffer
	m.write(&page)
	if page.Len() == 0 {
		t.Error("nothing was written")
	}
	var running []*measured
	for n := range maxPairs {
		running = append(running, m.begin(stamp(fmt.Sprintf("%010x", n), "2")))
	}
	if running[maxPairs-1].pair.identity != unstamped || len(m.pairs) != maxPairs {
		t.Errorf("got %v of %d", running[maxPairs-1].pair.identity, len(m.pairs))
	}
}

func TestBoundIsFormattedAsInPython(t *testing.T) {
	for value, want := range map[float64]string{1: "1.0", 0.001: "0.001", 2560: "2560.0", 7.5: "7.5"} {
		if got := bound(value); got != want {
			t.Errorf("%v is %s", value, got)
		}
	}
}

func TestStatusDecidesOutcome(t *testing.T) {
	for status, want := range map[int]string{302: excluded, 400: rejected, 401: excluded, 404: excluded, 408: left, 413: rejected,
		422: rejected, 429: excluded, 499: left, 500: serverError, 503: serverError} {
		if got := outcomeOf(status); got != want {
			t.Errorf("%d is %s, want %s", status, got, want)
		}
	}
}

// counted is the counts of a pair by outcome, overdue and settled.
func counted(p *pair) string {
	text := ""
	for i, n := range p.ended {
		if n > 0 {
			text += fmt.Sprintf("%s=%d ", outcomes[i], n)
		}
	}
	return text + fmt.Sprint(p.overdue, p.settled)
}

func TestSilenceIsCountedOncePerLimit(t *testing.T) {
	type step struct {
		after int
		do    string
	}
	for name, c := range map[string]struct {
		steps []step
		want  string
	}{
		"an answer at once":            {[]step{{1, "ok"}}, "ok=1 [0 0 0 0 0] [1 1 1 1 1]"},
		"a client leaves soon":         {[]step{{9, "leave"}}, "left=1 [0 0 0 0 0] [1 1 1 1 1]"},
		"a client leaves late":         {[]step{{10, "leave"}}, "timed_out=1 [0 0 0 0 0] [1 1 1 1 1]"},
		"a client leaves a stream":     {[]step{{20, "byte"}, {9, "leave"}}, "left=1 [0 0 0 0 0] [1 1 1 1 1]"},
		"a client leaves a stall":      {[]step{{1, "byte"}, {10, "leave"}}, "timed_out=1 [0 0 0 0 0] [1 1 1 1 1]"},
		"silent so far":                {[]step{{61, "sweep"}, {1, "sweep"}}, "[1 1 0 0 0] [1 1 0 0 0]"},
		"almost silent":                {[]step{{29, "sweep"}, {1, "byte"}, {29, "sweep"}}, "[1 0 0 0 0] [1 0 0 0 0]"},
		"silent, then answered":        {[]step{{30, "ok"}}, "ok=1 [1 0 0 0 0] [1 1 1 1 1]"},
		"silent twice":                 {[]step{{31, "sweep"}, {1, "byte"}, {31, "sweep"}, {1, "ok"}}, "ok=1 [1 0 0 0 0] [1 1 1 1 1]"},
		"silent before a sweep":        {[]step{{130, "byte"}, {1, "ok"}}, "ok=1 [1 1 1 0 0] [1 1 1 1 1]"},
		"silent until the client goes": {[]step{{600, "leave"}}, "timed_out=1 [1 1 1 1 1] [1 1 1 1 1]"},
	} {
		now := time.Now()
		m := newMeasures(nil, func() time.Time { return now })
		r := m.begin(stamp("abcdef0123", "7"))
		for _, s := range c.steps {
			now = now.Add(time.Duration(s.after) * time.Second)
			switch s.do {
			case "sweep":
				m.sweep()
			case "byte":
				r.sent()
			case "leave":
				r.end(r.left())
			case "ok":
				r.first, r.last = r.mark(), r.mark()
				r.end(ok)
			}
		}
		if got := counted(r.pair); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
