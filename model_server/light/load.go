package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// The load series: latencies by the number of requests in the engine, so that equal load can be compared. They exist
// only while the split document has `measure`, and only for the last three epochs.
const (
	loadEpochs = 3
	// This server has no prefix cache.
	cachedLow = "low"
)

// occupancy is the number of requests in the engine and its integral over time. Whole nanoseconds: the mean of a
// request that is alone is exactly 1, in whichever hour, and does not fall on both sides of a bucket's edge.
type occupancy struct {
	inside   int64
	integral int64
	at       time.Time
}

// moment is a time and the integral at it.
type moment struct {
	time     time.Time
	integral int64
}

func (o *occupancy) moment(now time.Time) moment {
	if passed := now.Sub(o.at); passed > 0 {
		o.integral += o.inside * int64(passed)
		o.at = now
	}
	return moment{now, o.integral}
}

// meanLoad is the mean number of requests in the engine between two moments; it is not known if no time has passed.
func meanLoad(from, to moment) (float64, bool) {
	passed := to.time.Sub(from.time)
	if from.time.IsZero() || passed <= 0 {
		return 0, false
	}
	return float64(to.integral-from.integral) / float64(passed), true
}

// loadKey is the labels of a load series beside those of its pair; the first one is the index of the latency.
type loadKey struct{ latency, bucket int }

type loadCount struct {
	requests uint64
	above    []uint64 // by boundary
}

// countLoad adds one latency of a request to the pair's load series.
func (p *pair) countLoad(m *measure, latency int, seconds float64, from, to moment) {
	boundaries := m.boundaries[latency]
	load, known := meanLoad(from, to)
	if !known || len(boundaries) == 0 {
		return
	}
	key := loadKey{latency, m.bucket(load)}
	count := p.load[key]
	if count == nil {
		count = &loadCount{above: make([]uint64, len(boundaries))}
		if p.load == nil {
			p.load = map[loadKey]*loadCount{}
		}
		p.load[key] = count
	}
	count.requests++
	for i, boundary := range boundaries {
		if seconds > boundary {
			count.above[i]++
		}
	}
}

// useMeasure removes all load series if the document in force measures something else, because the number of a boundary
// then means another boundary. It returns the measure in force.
func (m *measures) useMeasure(d *document) *measure {
	text := ""
	var now *measure
	if d != nil && d.measure != nil {
		now, text = d.measure, d.measure.text
	}
	if text != m.inForce {
		m.inForce, m.recent = text, nil
		for _, p := range m.pairs {
			p.load = nil
		}
	}
	return now
}

// keepRecent notes that a request of an epoch has arrived, and removes the load series of all but the last three such
// epochs. A request that ends later than that is not counted by load.
func (m *measures) keepRecent(epoch string) {
	if i := slices.Index(m.recent, epoch); i >= 0 {
		m.recent = slices.Delete(m.recent, i, i+1)
	}
	m.recent = append(m.recent, epoch)
	if len(m.recent) <= loadEpochs {
		return
	}
	for id, p := range m.pairs {
		if id.epoch == m.recent[0] {
			p.load = nil
		}
	}
	m.recent = slices.Delete(m.recent, 0, 1)
}

func (m *measures) writeLoad(w io.Writer) {
	if m.inForce == "" {
		return
	}
	labels := func(id identity, key loadKey) string {
		return fmt.Sprintf(`cached=%q,epoch=%q,load="%d",metric=%q,revision=%q`, cachedLow, id.epoch, key.bucket,
			latencies[key.latency], id.revision)
	}
	fmt.Fprint(w, "# TYPE serin_latency_requests_total counter\n")
	for id, p := range m.pairs {
		for key, count := range p.load {
			fmt.Fprintf(w, "serin_latency_requests_total{%s} %d.0\n", labels(id, key), count.requests)
		}
	}
	fmt.Fprint(w, "# TYPE serin_latency_above_total counter\n")
	for id, p := range m.pairs {
		for key, count := range p.load {
			for i, above := range count.above {
				fmt.Fprintf(w, "serin_latency_above_total{boundary=%q,%s} %d.0\n", strconv.Itoa(i), labels(id, key), above)
			}
		}
	}
}
