package main

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The series of Serin's middleware (model_server/serin_model_server), with the same names, labels and buckets: a pod of
// this server is measured like a pod of vLLM.
const (
	maxPairs     = 64
	coldRequests = 20
	coldTime     = time.Minute
	// A client that leaves after so much silence has timed out; one that leaves sooner has left.
	unanswered = 10 * time.Second
)

const (
	ok          = "ok"
	serverError = "server_error"
	rejected    = "rejected"
	streamError = "stream_error"
	aborted     = "aborted"
	timedOut    = "timed_out"
	excluded    = "excluded"
	left        = "left"
)

var (
	outcomes = [8]string{ok, serverError, rejected, streamError, aborted, timedOut, excluded, left}
	// Seconds of silence after which a request is overdue, ascending.
	silences        = [5]int{30, 60, 120, 300, 600}
	ttftBuckets     = []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
	latencyBuckets  = []float64{0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
	perTokenBuckets = []float64{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
	// By the index of the latency.
	histograms = [4]struct {
		name   string
		bounds []float64
	}{
		ttft:  {"serin_time_to_first_token_seconds", ttftBuckets},
		tpot:  {"serin_request_time_per_output_token_seconds", perTokenBuckets},
		e2e:   {"serin_e2e_request_latency_seconds", latencyBuckets},
		queue: {"serin_request_queue_time_seconds", latencyBuckets},
	}
)

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
	ended    [len(outcomes)]uint64
	overdue  [len(silences)]uint64
	settled  [len(silences)]uint64
	times    [len(histograms)]histogram
	load     map[loadKey]*loadCount
	checks   map[string]*checkCount // by name
	answers  uint64                 // complete ones
	wrong    uint64                 // of them, those that fail the checks
	inFlight int
	lastUse  uint64
}

type warmth struct {
	first time.Time
	count int
}

// measures holds all series. One lock is enough, because its critical sections are short compared to HTTP.
type measures struct {
	split    *split
	clock    func() time.Time
	mutex    sync.Mutex
	pairs    map[identity]*pair
	warm     map[string]warmth
	uses     uint64
	inFlight map[*measured]struct{}
	engine   occupancy
	inForce  string            // text of the measure that the load series are for
	checks   map[string]string // of the document in force: by name, the text of what each asks
	failRate float64           // share of the answers that fail a check, where no prompt says another one
	recent   []string          // epochs that may have load series, the one whose request arrived last at the end
}

func newMeasures(s *split, clock func() time.Time) *measures {
	return &measures{split: s, clock: clock, pairs: map[identity]*pair{}, warm: map[string]warmth{},
		inFlight: map[*measured]struct{}{}, engine: occupancy{at: clock()}}
}

// measured is one request in flight. It keeps the document with which it arrived.
type measured struct {
	all         *measures
	pair        *pair
	document    *document
	cold        bool
	arrived     moment
	scheduled   moment
	first, last moment // token
	tokens      int
	wrong       bool      // whether its answer fails the checks
	newestByte  time.Time // of the body; the arrival before the first one
	reached     int       // how many of the silences it has been silent for
}

func (m *measures) begin(header http.Header) *measured {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	now, d := m.clock(), m.split.document()
	p := m.pairOf(m.split.identify(d, header))
	if m.useMeasure(d) != nil && p.identity.epoch != none {
		m.keepRecent(p.identity.epoch)
	}
	m.useChecks(d, p)
	p.started++
	p.inFlight++
	r := &measured{all: m, pair: p, document: d, arrived: m.engine.moment(now), newestByte: now,
		cold: m.isCold(p.identity.revision, now)}
	m.engine.inside++
	m.inFlight[r] = struct{}{}
	return r
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
	p := &pair{identity: id, lastUse: m.uses}
	for i := range p.times {
		p.times[i].counts = make([]uint64, len(histograms[i].bounds)+1)
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

// mark returns the moment that it is now.
func (r *measured) mark() moment {
	r.all.mutex.Lock()
	defer r.all.mutex.Unlock()
	return r.all.engine.moment(r.all.clock())
}

// sent notes that a byte of the response's body was sent.
func (r *measured) sent() {
	r.all.mutex.Lock()
	defer r.all.mutex.Unlock()
	now := r.all.clock()
	// The silence that ends here may have begun and passed a limit since the last sweep.
	r.countSilence(now)
	r.newestByte = now
}

// countSilence counts the request as overdue for each silence that it has reached, once.
func (r *measured) countSilence(now time.Time) {
	silence := now.Sub(r.newestByte)
	for ; r.reached < len(silences) && silence >= time.Duration(silences[r.reached])*time.Second; r.reached++ {
		r.pair.overdue[r.reached]++
		r.pair.settled[r.reached]++
	}
}

// sweep counts the silence of all requests in flight.
func (m *measures) sweep() {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	now := m.clock()
	for r := range m.inFlight {
		r.countSilence(now)
	}
}

// watch sweeps once a second until `stop` is closed.
func (m *measures) watch(stop <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.sweep()
		case <-stop:
			return
		}
	}
}

// left is the outcome of a request whose client disconnects now.
func (r *measured) left() string {
	r.all.mutex.Lock()
	defer r.all.mutex.Unlock()
	if r.all.clock().Sub(r.newestByte) >= unanswered {
		return timedOut
	}
	return left
}

// end counts the request by its outcome and observes the times of a warm request with outcome ok.
func (r *measured) end(outcome string) {
	m := r.all
	m.mutex.Lock()
	defer m.mutex.Unlock()
	now := m.clock()
	m.engine.moment(now)
	m.engine.inside--
	delete(m.inFlight, r)
	r.pair.inFlight--
	r.pair.ended[slices.Index(outcomes[:], outcome)]++
	r.countSilence(now)
	for i := r.reached; i < len(silences); i++ {
		r.pair.settled[i]++
	}
	if outcome == ok {
		r.countChecks()
	}
	if outcome == ok && !r.cold {
		r.observe()
	}
}

func (r *measured) observe() {
	m := r.all
	inForce := m.useMeasure(m.split.document())
	byLoad := inForce != nil && r.document != nil && r.document.measure != nil && r.document.measure.text == inForce.text &&
		slices.Contains(m.recent, r.pair.identity.epoch)
	observe := func(latency int, seconds float64, from, to moment) {
		r.pair.times[latency].observe(histograms[latency].bounds, seconds)
		if byLoad {
			r.pair.countLoad(inForce, latency, seconds, from, to)
		}
	}
	span := func(from, to moment) float64 { return to.time.Sub(from.time).Seconds() }
	observe(ttft, span(r.arrived, r.first), r.arrived, r.first)
	if r.tokens > 1 {
		observe(tpot, span(r.first, r.last)/float64(r.tokens-1), r.first, r.last)
	}
	observe(e2e, span(r.arrived, r.last), r.arrived, r.last)
	// The load under which a request waited for its turn is that until its first token, as for ttft.
	observe(queue, span(r.arrived, r.scheduled), r.arrived, r.first)
}

// outcomeOf is the outcome of an error status.
func outcomeOf(status int) string {
	switch {
	case status >= 500:
		return serverError
	case status == 400, status == 413, status == 422:
		return rejected
	case status == 408, status == 499:
		return left
	}
	return excluded
}

// write prints the series in the Prometheus text format.
func (m *measures) write(w io.Writer) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.useMeasure(m.split.document())
	m.useChecks(m.split.document(), nil)
	fmt.Fprint(w, "# TYPE serin_requests_started_total counter\n")
	for id, p := range m.pairs {
		fmt.Fprintf(w, "serin_requests_started_total{epoch=%q,revision=%q} %d.0\n", id.epoch, id.revision, p.started)
	}
	fmt.Fprint(w, "# TYPE serin_requests_total counter\n")
	for id, p := range m.pairs {
		for i, outcome := range outcomes {
			fmt.Fprintf(w, "serin_requests_total{epoch=%q,outcome=%q,revision=%q} %d.0\n", id.epoch, outcome, id.revision, p.ended[i])
		}
	}
	m.writeSilences(w, "serin_requests_overdue_total", func(p *pair) []uint64 { return p.overdue[:] })
	m.writeSilences(w, "serin_requests_settled_total", func(p *pair) []uint64 { return p.settled[:] })
	for i, h := range histograms {
		m.writeHistogram(w, h.name, h.bounds, func(p *pair) *histogram { return &p.times[i] })
	}
	m.writeLoad(w)
	m.writeChecks(w)
	m.split.write(w)
}

func (m *measures) writeSilences(w io.Writer, name string, of func(*pair) []uint64) {
	fmt.Fprintf(w, "# TYPE %s counter\n", name)
	for id, p := range m.pairs {
		for i, count := range of(p) {
			fmt.Fprintf(w, "%s{epoch=%q,le=\"%d\",revision=%q} %d.0\n", name, id.epoch, silences[i], id.revision, count)
		}
	}
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
