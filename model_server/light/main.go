// Command light is an HTTP server with vLLM's API that answers at once, for tests that need thousands of requests per
// second on half a core. In a pod it replaces the engine image: same flags, same paths, same two gauges, same drain.
// All answers are the same, so it says nothing about the quality of a model. Standard library only.
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
	server := &http.Server{Handler: newEngine(c).routes(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
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
		return server.Close()
	} else if err != nil {
		return err
	}
	log.Print("light: drained")
	return nil
}
