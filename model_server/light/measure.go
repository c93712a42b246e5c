package main

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The series of Serin's middleware (model_server/serin_model_server), by the same headers, with the same names, labels and
// buckets: a pod of this server is measured like a pod of vLLM. Series that need an engine (queue, time per token) are missing.
const (
	revisionHeader = "X-Serin-Revision"
	epochHeader    = "X-Serin-Epoch"
	epochs         = 32
	maxPairs       = 64
	coldRequests   = 20
	coldTime       = time.Minute
)

var (
	outcomes       = []string{"ok", "server_error", "rejected", "stream_error", "aborted", "timed_out", "excluded"}
	revisionForm   = regexp.MustCompile(`^[0-9a-f]{10}$`)
	ttftBuckets    = []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
	latencyBuckets = []float64{0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
)

type identity struct{ revision, epoch string }

// unstamped is the identity of a request that the route did not stamp.
var unstamped = identity{"none", "none"}

// identify requires one well-formed value per header, as the route sets them. All other requests are unstamped.
func identify(header http.Header) identity {
	revisions, epochValues := header.Values(revisionHeader), header.Values(epochHeader)
	if len(revisions) != 1 || len(epochValues) != 1 || !revisionForm.MatchString(revisions[0]) {
		return unstamped
	}
	number, err := strconv.Atoi(epochValues[0])
	if err != nil || number < 0 || number >= epochs || strconv.Itoa(number) != epochValues[0] {
		return unstamped
	}
	return identity{revisions[0], epochValues[0]}
}

// histogram holds the count of each bucket, not cumulative; the last bucket is +Inf.
type histogram struct {
	counts []uint64
	sum    float64
}

func (h *histogram) observe(bounds []float64, seconds float64) {
	i, _ := slices.BinarySearch(bounds, seconds)
	h.counts[i]++
	h.sum += seconds
}

type pair struct {
	identity identity
	started  uint64
	finished [7]uint64
	ttft     histogram
	e2e      histogram
	inFlight int
	lastUse  uint64
}

type warmth struct {
	first time.Time
	count int
}

// measures holds all series. One lock is enough, because its critical sections are short compared to HTTP.
type measures struct {
	mutex sync.Mutex
	pairs map[identity]*pair
	warm  map[string]warmth
	uses  uint64
}

func newMeasures() *measures {
	return &measures{pairs: map[identity]*pair{}, warm: map[string]warmth{}}
}

// measured is one request in flight.
type measured struct {
	all   *measures
	pair  *pair
	began time.Time
	first time.Time
	cold  bool
}

func (m *measures) begin(header http.Header) *measured {
	id, now := identify(header), time.Now()
	m.mutex.Lock()
	defer m.mutex.Unlock()
	p := m.pairOf(id)
	p.started++
	p.inFlight++
	return &measured{all: m, pair: p, began: now, cold: m.isCold(p.identity.revision, now)}
}

// pairOf returns the pair of an identity. If there are too many, it removes the pair that was idle longest; if all are
// busy, it returns the pair of unstamped requests.
func (m *measures) pairOf(id identity) *pair {
	m.uses++
	if p, known := m.pairs[id]; known {
		p.lastUse = m.uses
		return p
	}
	others := len(m.pairs)
	if _, known := m.pairs[unstamped]; known {
		others--
	}
	if id != unstamped && others >= maxPairs-1 {
		var oldest *pair
		for other, p := range m.pairs {
			if other != unstamped && p.inFlight == 0 && (oldest == nil || p.lastUse < oldest.lastUse) {
				oldest = p
			}
		}
		if oldest == nil {
			return m.pairOf(unstamped)
		}
		delete(m.pairs, oldest.identity)
	}
	p := &pair{
		identity: id,
		lastUse:  m.uses,
		ttft:     histogram{counts: make([]uint64, len(ttftBuckets)+1)},
		e2e:      histogram{counts: make([]uint64, len(latencyBuckets)+1)},
	}
	m.pairs[id] = p
	return p
}

// isCold counts a request and reports whether it is among its revision's first 20 and in its first minute.
func (m *measures) isCold(revision string, now time.Time) bool {
	w, known := m.warm[revision]
	if !known {
		if len(m.warm) >= maxPairs {
			// Remove any one: only a client that bypasses the route can cause so many.
			for other := range m.warm {
				delete(m.warm, other)
				break
			}
		}
		w.first = now
	}
	cold := w.count < coldRequests && now.Sub(w.first) < coldTime
	if cold {
		w.count++
	} else {
		w.count = coldRequests
	}
	m.warm[revision] = w
	return cold
}

// firstToken records the time of the first token.
func (r *measured) firstToken() {
	if r.first.IsZero() {
		r.first = time.Now()
	}
}

// end counts the request by its outcome and observes the times of a warm request with outcome ok.
func (r *measured) end(outcome string) {
	now := time.Now()
	r.all.mutex.Lock()
	defer r.all.mutex.Unlock()
	r.pair.inFlight--
	r.pair.finished[slices.Index(outcomes, outcome)]++
	if outcome == "ok" && !r.cold {
		r.pair.ttft.observe(ttftBuckets, r.first.Sub(r.began).Seconds())
		r.pair.e2e.observe(latencyBuckets, now.Sub(r.began).Seconds())
	}
}

// outcomeOf is the outcome of an error status.
func outcomeOf(status int) string {
	switch {
	case status >= 500:
		return "server_error"
	case status == 400, status == 413, status == 422:
		return "rejected"
	}
	return "excluded"
}

// write prints the series in the Prometheus text format.
func (m *measures) write(w io.Writer) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	fmt.Fprint(w, "# TYPE serin_requests_started_total counter\n")
	for id, p := range m.pairs {
		fmt.Fprintf(w, "serin_requests_started_total{epoch=%q,revision=%q} %d.0\n", id.epoch, id.revision, p.started)
	}
	fmt.Fprint(w, "# TYPE serin_requests_total counter\n")
	for id, p := range m.pairs {
		for i, outcome := range outcomes {
			fmt.Fprintf(w, "serin_requests_total{epoch=%q,outcome=%q,revision=%q} %d.0\n", id.epoch, outcome, id.revision, p.finished[i])
		}
	}
	m.writeHistogram(w, "serin_time_to_first_token_seconds", ttftBuckets, func(p *pair) *histogram { return &p.ttft })
	m.writeHistogram(w, "serin_e2e_request_latency_seconds", latencyBuckets, func(p *pair) *histogram { return &p.e2e })
}

func (m *measures) writeHistogram(w io.Writer, name string, bounds []float64, of func(*pair) *histogram) {
	fmt.Fprintf(w, "# TYPE %s histogram\n", name)
	for id, p := range m.pairs {
		h, total := of(p), uint64(0)
		labels := fmt.Sprintf("epoch=%q,revision=%q", id.epoch, id.revision)
		for i, count := range h.counts {
			total += count
			le := "+Inf"
			if i < len(bounds) {
				le = bound(bounds[i])
			}
			fmt.Fprintf(w, "%s_bucket{%s,le=%q} %d.0\n", name, labels, le, total)
		}
		fmt.Fprintf(w, "%s_count{%s} %d.0\n%s_sum{%s} %g\n", name, labels, total, name, labels, h.sum)
	}
}

// bound formats a boundary as Python's client does, so that the label `le` is equal in both: 1.0, not 1.
func bound(value float64) string {
	if value == math.Trunc(value) {
		return strconv.FormatFloat(value, 'f', 1, 64)
	}
	return strconv.FormatFloat(value, 'f', -1, 64)
}
