package main

import (
	"bytes"
	"context"
	"fmt"
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
		`serin_time_to_first_token_seconds_count{epoch="7",revision="abcdef0123"} 2.0`,
		`serin_time_to_first_token_seconds_bucket{epoch="7",revision="abcdef0123",le="0.02"} 0.0`,
		`serin_time_to_first_token_seconds_bucket{epoch="7",revision="abcdef0123",le="+Inf"} 2.0`,
		`serin_e2e_request_latency_seconds_count{epoch="7",revision="abcdef0123"} 2.0`)
}

func TestDisconnectedClientIsExcluded(t *testing.T) {
	e, server := start(t, "--first-token-delay", "30")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	request, _ := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+chatPath, strings.NewReader(`{}`))
	request.Header = stamp("abcdef0123", "7")
	if _, err := http.DefaultClient.Do(request); err == nil {
		t.Fatal("an answer came")
	}
	for deadline := time.Now().Add(5 * time.Second); e.running.Load() > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the request still runs")
		}
		time.Sleep(time.Millisecond)
	}
	wants(t, get(t, server.URL+"/metrics"), `serin_requests_total{epoch="7",outcome="excluded",revision="abcdef0123"} 1.0`)
}

func TestNumberOfSeriesIsLimited(t *testing.T) {
	m := newMeasures()
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
