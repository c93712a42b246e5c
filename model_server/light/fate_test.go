package main

import (
	"net/http"
	"strings"
	"testing"
)

func TestFatesAreSpreadEvenly(t *testing.T) {
	f := fates{rates: [fateCount]float64{failed: 0.1, hung: 0.3, stalled: 0.05, refused: 0.5}}
	given := [fateCount]int{}
	for n := 1; n <= 1000; n++ {
		given[f.next()]++
		for i, rate := range f.rates {
			if off := float64(given[i]) - rate*float64(n); fate(i) != answered && (off > 1 || off < -3) {
				t.Fatalf("after %d: %v", n, given)
			}
		}
	}
	one := fates{rates: [fateCount]float64{failed: 0.3}}
	failures := 0
	for range 100 {
		if one.next() == failed {
			failures++
		}
	}
	if failures != 30 {
		t.Errorf("%d of 100 failed", failures)
	}
	all := fates{rates: [fateCount]float64{hung: 1}}
	for range 10 {
		if all.next() != hung {
			t.Error("a rate of 1 spares a request")
		}
	}
}

func TestHungAndStalledRequestsAreHeldUntilClientLeaves(t *testing.T) {
	for flag, body := range map[string]string{"--hang-rate": `{"stream":true}`, "--stall-rate": `{"stream":true}`, "--stall-rate=1": `{}`} {
		arguments := []string{flag}
		if !strings.Contains(flag, "=") {
			arguments = append(arguments, "1")
		}
		e, server := start(t, arguments...)
		leaveEarly(t, e, server.URL+chatPath, body, stamp("abcdef0123", "7"))
		wants(t, get(t, server.URL+"/metrics"), `serin_requests_total{epoch="7",outcome="left",revision="abcdef0123"} 1.0`)
	}
}

func TestStalledStreamHasFirstToken(t *testing.T) {
	_, server := start(t, "--stall-rate", "1")
	response, err := http.Post(server.URL+chatPath, "application/json", strings.NewReader(`{"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text := make([]byte, 1000)
	n, err := response.Body.Read(text)
	if err != nil || strings.Count(string(text[:n]), "data: ") != 1 {
		t.Errorf("got %q, %v", text[:n], err)
	}
}

func TestRefusedRequestsAreResetAndNotCounted(t *testing.T) {
	_, server := start(t, "--refuse-rate", "0.5")
	resets := 0
	for range 10 {
		response, err := http.Post(server.URL+chatPath, "application/json", strings.NewReader(`{}`))
		if err != nil {
			resets++
			continue
		}
		response.Body.Close()
	}
	if resets != 5 {
		t.Errorf("%d connections were reset", resets)
	}
	wants(t, get(t, server.URL+"/metrics"), `serin_requests_started_total{epoch="none",revision="none"} 5.0`)
}

func TestFailureThatIsKnownStaysOneWhenClientLeaves(t *testing.T) {
	e, _ := start(t)
	for status, want := range map[int]string{500: serverError, 404: excluded, 429: excluded, 400: rejected} {
		request, _ := http.NewRequestWithContext(canceled(), http.MethodPost, chatPath, nil)
		x := &exchange{measured: e.measures.begin(http.Header{}), status: status, broken: true}
		if got := e.outcome(x, request, false); got != want {
			t.Errorf("%d is %s", status, got)
		}
	}
}

func TestRequestAbortedByServerIsAborted(t *testing.T) {
	e, _ := start(t)
	request, _ := http.NewRequestWithContext(canceled(), http.MethodPost, chatPath, nil)
	e.closing.Store(true)
	if got := e.outcome(&exchange{measured: e.measures.begin(http.Header{})}, request, false); got != aborted {
		t.Errorf("got %s", got)
	}
}
