package main

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"
)

const measuring = `{"measure":{"load":{"from":1.0,"ratio":1.3},"boundaries":{"ttft":[1,2],"e2e":[3]}}}`

// busy is measures under a clock that stands still, whose revision is warm.
func busy(t *testing.T, s *split) (*measures, *time.Time) {
	now := time.Now()
	m := newMeasures(s, func() time.Time { return now })
	m.warm["88e4b76379"] = warmth{now, coldRequests}
	return m, &now
}

func page(m *measures) string {
	var text bytes.Buffer
	m.write(&text)
	return text.String()
}

func epoch(number string) http.Header { return http.Header{epochHeader: {number + "." + token}} }

func TestLatenciesAreCountedByMeanLoad(t *testing.T) {
	m, now := busy(t, mounted(t, documentText(t, measuring)))
	second := func() { *now = now.Add(time.Second) }
	finish := func(r *measured, outcome string) {
		r.last, r.tokens = r.mark(), 12
		r.end(outcome)
	}
	// Alone until its first token, then one of three for two seconds: 7 requests x seconds in 3.
	r := m.begin(epoch("7"))
	r.scheduled = r.mark()
	second()
	r.first = r.mark()
	second1, second2 := m.begin(epoch("7")), m.begin(epoch("none"))
	second()
	second()
	finish(r, ok)
	finish(second1, serverError)
	second2.first = second2.mark()
	finish(second2, ok)
	text := page(m)
	wants(t, text,
		`serin_latency_requests_total{cached="low",epoch="7",load="1",metric="ttft",revision="88e4b76379"} 1.0`,
		`serin_latency_above_total{boundary="0",cached="low",epoch="7",load="1",metric="ttft",revision="88e4b76379"} 0.0`,
		`serin_latency_above_total{boundary="1",cached="low",epoch="7",load="1",metric="ttft",revision="88e4b76379"} 0.0`,
		`serin_latency_requests_total{cached="low",epoch="7",load="4",metric="e2e",revision="88e4b76379"} 1.0`,
		`serin_latency_above_total{boundary="0",cached="low",epoch="7",load="4",metric="e2e",revision="88e4b76379"} 0.0`)
	if n := strings.Count(text, "serin_latency_requests_total{"); n != 2 {
		t.Errorf("%d series in %s", n, text)
	}
	slow := m.begin(epoch("7"))
	*now = now.Add(1500 * time.Millisecond)
	slow.scheduled = slow.mark()
	slow.first = slow.mark()
	finish(slow, ok)
	wants(t, page(m),
		`serin_latency_requests_total{cached="low",epoch="7",load="1",metric="ttft",revision="88e4b76379"} 2.0`,
		`serin_latency_above_total{boundary="0",cached="low",epoch="7",load="1",metric="ttft",revision="88e4b76379"} 1.0`,
		`serin_latency_above_total{boundary="1",cached="low",epoch="7",load="1",metric="ttft",revision="88e4b76379"} 0.0`)
}

func answer1(m *measures, now *time.Time, number string) {
	r := m.begin(epoch(number))
	*now = now.Add(time.Millisecond)
	r.first, r.last, r.tokens = r.mark(), r.mark(), 1
	r.end(ok)
}

func TestLoadSeriesNeedMeasureAndRecentEpoch(t *testing.T) {
	s := mounted(t, documentText(t, measuring))
	m, now := busy(t, s)
	old := m.begin(epoch("31"))
	for _, number := range []string{"0", "1", "1", "2"} {
		answer1(m, now, number)
	}
	old.first, old.last = old.mark(), old.mark()
	old.end(ok)
	text := page(m)
	for number, want := range map[string]bool{"31": false, "0": true, "1": true, "2": true} {
		if got := strings.Contains(text, `serin_latency_requests_total{cached="low",epoch="`+number+`"`); got != want {
			t.Errorf("epoch %s: %v", number, got)
		}
	}
	answer1(m, now, "3")
	if text = page(m); strings.Contains(text, `cached="low",epoch="0"`) || !strings.Contains(text, `cached="low",epoch="3"`) {
		t.Error("four epochs have load series")
	}
	write(t, s.path, documentText(t, `{}`))
	s.load()
	if text = page(m); strings.Contains(text, "serin_latency_") {
		t.Error("load series are left without a measure")
	}
	late := m.begin(epoch("3"))
	write(t, s.path, documentText(t, measuring))
	s.load()
	late.first, late.last = late.mark(), late.mark()
	late.end(ok)
	if strings.Contains(page(m), "serin_latency_requests_total{") {
		t.Error("a request is counted that arrived before the measure")
	}
}

func TestRequestAloneHasLoadOneAtAnyTime(t *testing.T) {
	m, now := busy(t, mounted(t, documentText(t, measuring)))
	for range 1000 {
		*now = now.Add(12345678901 * time.Nanosecond)
		answer1(m, now, "7")
	}
	wants(t, page(m), `serin_latency_requests_total{cached="low",epoch="7",load="1",metric="ttft",revision="88e4b76379"} 1000.0`)
}
