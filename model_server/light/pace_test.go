package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// together sends n requests at once and returns how long all of them took.
func together(t *testing.T, n int, url, body string) time.Duration {
	t.Helper()
	began := time.Now()
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			response, err := http.Post(url, "application/json", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
		})
	}
	group.Wait()
	return time.Since(began)
}

func TestDelayGrowsWithLoadAndFallsWithSpeed(t *testing.T) {
	p := paceOf(config{loadSlowdown: 0.5, speed: 0.5})
	for running, want := range map[int64]time.Duration{0: 2 * time.Second, 1: 3 * time.Second, 4: 6 * time.Second} {
		p.running.Store(running)
		if got := p.delay(time.Second); got != want {
			t.Errorf("%d running: %s, want %s", running, got, want)
		}
	}
}

func TestDelaysSpreadAroundTheirMedian(t *testing.T) {
	above, wide := 0, 0
	for range 10_000 {
		switch delay := vary(time.Second, 0.5); {
		case delay < time.Second/widestSpread || delay > widestSpread*time.Second:
			t.Fatalf("a delay of %s", delay)
		case delay > time.Second*3/2:
			wide++
			fallthrough
		case delay > time.Second:
			above++
		}
	}
	// Half are above the median, and 21 % above 1.5 times of it; seven standard deviations.
	if above < 4650 || above > 5350 || wide < 1800 || wide > 2400 {
		t.Errorf("%d above, %d far above", above, wide)
	}
	if still := vary(time.Second, 0); still != time.Second {
		t.Errorf("without spread: %s", still)
	}
}

func TestAnswersTakeLongerUnderLoad(t *testing.T) {
	// 5 ms + 10 tokens x 5 ms, alone; 1.8 times as long if eight run.
	_, server := start(t, "--first-token-delay", "0.005", "--time-per-token", "0.005", "--load-slowdown", "0.1")
	body := `{"max_tokens":11}`
	alone := together(t, 1, server.URL+chatPath, body)
	loaded := together(t, 8, server.URL+chatPath, body)
	if alone < 60*time.Millisecond || loaded < 98*time.Millisecond {
		t.Errorf("alone %s, loaded %s", alone, loaded)
	}
}

func TestRequestsBeyondSlotsWaitTheirTurn(t *testing.T) {
	e, server := start(t, "--slots", "2", "--first-token-delay", "0.05")
	if took := together(t, 6, server.URL+chatPath, `{}`); took < 150*time.Millisecond {
		t.Errorf("three rounds took %s", took)
	}
	if e.pace.running.Load() != 0 || e.pace.waiting.Load() != 0 {
		t.Error("a slot is lost")
	}
	e.pace.enter(context.Background())
	e.pace.enter(context.Background())
	leaveEarly(t, e, server.URL+chatPath, `{}`, http.Header{})
	if e.pace.running.Load() != 2 || e.pace.waiting.Load() != 0 {
		t.Error("a client that left while it waited has a slot")
	}
}

func TestAnswersHaveTokensAskedFor(t *testing.T) {
	_, server := start(t, "--time-per-token", "0.001")
	for body, want := range map[string]string{`{}`: `"completion_tokens":12,"total_tokens":28`, `{"max_tokens":3}`: `"completion_tokens":3,`,
		`{"max_completion_tokens":5}`: `"completion_tokens":5,`, `{"max_tokens":0}`: "max_tokens is not above 0"} {
		if _, got := post(t, server.URL+chatPath, body); !strings.Contains(got, want) {
			t.Errorf("%s got %s", body, got)
		}
	}
	_, text := post(t, server.URL+completionsPath, `{"stream":true,"max_tokens":4}`)
	// Four tokens, the finish reason and [DONE].
	if n := strings.Count(text, "data: "); n != 6 || !strings.HasSuffix(text, "data: [DONE]\n\n") {
		t.Errorf("%d events in %s", n, text)
	}
}
