// Command light is an HTTP server with vLLM's API that answers at once, for tests that need thousands of requests per
// second on half a core. In a pod it replaces the engine image: same flags, same paths, same series, same drain. On
// request it is slow like an engine under load, or fails. All answers are the same, so it says nothing about the quality
// of a model. Standard library only.
//
//	engine     requests and answers
//	pace       delays that grow with load
//	fate       failures on request
//	measure    the series of Serin's middleware
//	load       its latencies by load
//	identity   revision and epoch from headers
//	split      the split document in force
//	document   what a split document contains
//	flags      the command line
package main

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	c, err := parse(os.Args[1:])
	if err != nil {
		log.Fatal("light: ", err)
	}
	if err := run(c); err != nil {
		log.Fatal("light: ", err)
	}
}

// run serves until SIGTERM or SIGINT. Then it accepts no new requests; requests in flight have the shutdown timeout to
// finish. As in vLLM the default is 0, which aborts them at once.
func run(c config) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	listener, err := net.Listen("tcp", net.JoinHostPort(c.host, strconv.Itoa(c.port)))
	if err != nil {
		return err
	}
	e := newEngine(c, splitOf(os.Getenv(splitVariable), splitCopy))
	ended := make(chan struct{})
	defer close(ended)
	go e.split.watch(ended)
	go e.measures.watch(ended)
	server := &http.Server{Handler: e.routes(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	log.Printf("light: serving %s on %s", c.model, listener.Addr())
	select {
	case err := <-done:
		return err
	case <-stop:
	}
	log.Printf("light: draining for at most %s", c.shutdownTimeout)
	ctx, cancel := context.WithTimeout(context.Background(), c.shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
		log.Print("light: the shutdown timeout has passed, aborting the requests in flight")
		e.closing.Store(true)
		return server.Close()
	} else if err != nil {
		return err
	}
	log.Print("light: drained")
	return nil
}
