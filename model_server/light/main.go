// Command light is an HTTP server that speaks like vLLM and answers at once, for tests that need thousands of requests per
// second on half a core. It stands in for the engine image in a pod: same flags, same paths, same two gauges, same drain.
// The answers are canned: nothing about the quality of a model can be learned from it. Standard library only.
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

// run serves until SIGTERM or SIGINT, then drains: nothing new is accepted, what runs may end within the shutdown timeout.
// Like vLLM, whose timeout is 0 by default, it aborts everything when no timeout was given.
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
		log.Print("light: the timeout is over, aborting what still runs")
		return server.Close()
	} else if err != nil {
		return err
	}
	log.Print("light: drained")
	return nil
}
