package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// config holds the command line. The server replaces vLLM in a pod, so it accepts the flags of a vLLM pod and ignores
// those without a meaning here.
type config struct {
	model           string
	host            string
	port            int
	shutdownTimeout time.Duration
	errorRate       float64
	errorStatus     int
	failOn          string
	firstTokenDelay time.Duration
}

// parse reads `[serve] MODEL --flag value --flag=value --bare …`. Unknown flags are ignored, with their values.
func parse(arguments []string) (config, error) {
	c := config{port: 8000, errorStatus: 500, errorRate: -1}
	if len(arguments) > 0 && arguments[0] == "serve" {
		arguments = arguments[1:]
	}
	if len(arguments) > 0 && !strings.HasPrefix(arguments[0], "-") {
		c.model = arguments[0]
		arguments = arguments[1:]
	}
	statusGiven := false
	for i := 0; i < len(arguments); i++ {
		if !strings.HasPrefix(arguments[i], "--") {
			continue
		}
		name, value, joined := strings.Cut(strings.TrimPrefix(arguments[i], "--"), "=")
		if !joined && i+1 < len(arguments) && !strings.HasPrefix(arguments[i+1], "--") {
			i++
			value = arguments[i]
		}
		var err error
		switch strings.ReplaceAll(name, "_", "-") {
		case "served-model-name":
			c.model = value
		case "host":
			c.host = value
		case "port":
			c.port, err = strconv.Atoi(value)
		case "shutdown-timeout":
			var seconds float64
			seconds, err = strconv.ParseFloat(value, 64)
			c.shutdownTimeout = time.Duration(seconds * float64(time.Second))
		case "first-token-delay":
			var seconds float64
			seconds, err = strconv.ParseFloat(value, 64)
			if err == nil && !(seconds >= 0 && seconds <= 600) {
				err = fmt.Errorf("%v is not between 0 and 600 seconds", seconds)
			}
			c.firstTokenDelay = time.Duration(seconds * float64(time.Second))
		case "error-rate":
			c.errorRate, err = strconv.ParseFloat(value, 64)
			if err == nil && (c.errorRate < 0 || c.errorRate > 1) {
				err = fmt.Errorf("%v is not between 0 and 1", c.errorRate)
			}
		case "fail-on":
			c.failOn = value
		case "status":
			statusGiven = true
			c.errorStatus, err = strconv.Atoi(value)
			if err == nil && (c.errorStatus < 400 || c.errorStatus > 599) {
				err = fmt.Errorf("%d is not an error status", c.errorStatus)
			}
		}
		if err != nil {
			return c, fmt.Errorf("--%s %q: %w; correct the value", name, value, err)
		}
	}
	if c.model == "" {
		return c, fmt.Errorf("the model is missing: give its name as the first argument or with --served-model-name")
	}
	if c.errorRate < 0 {
		// A status without a rate means that every request fails with it.
		c.errorRate = 0
		if statusGiven {
			c.errorRate = 1
		}
	}
	return c, nil
}
