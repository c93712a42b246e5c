package main

import (
	"net"
	"net/http"
	"sync"
)

// fate is what this server was told to do to a request.
type fate int

const (
	answered fate = iota
	failed        // answered with the error status
	hung          // never answered: held until the client leaves
	stalled       // silent after the first token, until the client leaves
	refused       // its connection is reset before the request counts as arrived
	fateCount
)

// Rounding must not delay a request's fate: 0.1 x 10 can be a little less than 1.
const roundingError = 1e-9

// fates spreads failures evenly and not at random: of any N requests in a row, rate x N have a fate, plus or minus two.
type fates struct {
	mutex   sync.Mutex
	rates   [fateCount]float64 // of all requests; the sum is at most 1
	arrived int
	given   [fateCount]int
}

func (f *fates) next() fate {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.arrived++
	most, owed := answered, 0.0
	for i := failed; i < fateCount; i++ {
		due := float64(f.arrived)*f.rates[i] - float64(f.given[i])
		if due >= 1-roundingError && due > owed {
			most, owed = i, due
		}
	}
	f.given[most]++
	return most
}

// reset closes the client's connection with a TCP reset, as a server does that is overrun or gone.
func reset(w http.ResponseWriter) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, isTCP := connection.(*net.TCPConn); isTCP {
		tcp.SetLinger(0)
	}
	connection.Close()
}
