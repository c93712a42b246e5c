package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// config holds the command line. The server replaces vLLM in a pod, so it accepts the flags of a vLLM pod and ignores
// those without a meaning here. Flags of its own, all with a value:
//
//	first-token-delay, time-per-token   seconds, in an engine without load
//	load-slowdown   how much each running request adds to these delays, as a share of them
//	spread          of first tokens at the same load: the standard deviation of the logarithm of their delay; times per
//	                token spread by a fifth of it
//	slots           requests that run at a time; the others wait
//	speed           1 for the given delays, 0.5 for twice as long ones
//	error-rate, hang-rate, stall-rate, refuse-rate   shares of requests that fail, are never answered, stop after the
//	                first token, or have their connection reset; their sum is at most 1
//	status          of the failures
//	fail-on         a word; requests with it fail
//	check-fail-rate share of the answers that have wrong keys and fail each check of the split document
type config struct {
	model           string
	host            string
	port            int
	shutdownTimeout time.Duration
	errorStatus     int
	failOn          string
	rates           [fateCount]float64
	slots           int // requests that run at a time; 0 for all
	firstTokenDelay time.Duration
	timePerToken    time.Duration
	loadSlowdown    float64
	speed           float64
	spread          float64
	checkFailRate   float64
}

const (
	mostSlots    = 10_000
	longestDelay = 10 * time.Minute
	longestToken = 10 * time.Second
)

// parse reads `[serve] MODEL --flag value --flag=value --bare …`. Unknown flags are ignored, with their values.
func parse(arguments []string) (config, error) {
	c := config{port: 8000, errorStatus: 500, speed: 1}
	if len(arguments) > 0 && arguments[0] == "serve" {
		arguments = arguments[1:]
	}
	if len(arguments) > 0 && !strings.HasPrefix(arguments[0], "-") {
		c.model = arguments[0]
		arguments = arguments[1:]
	}
	statusGiven, rateGiven := false, false
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
		case "slots":
			c.slots, err = strconv.Atoi(value)
			if err == nil && (c.slots < 0 || c.slots > mostSlots) {
				err = fmt.Errorf("%d is not between 0 and %d", c.slots, mostSlots)
			}
		case "first-token-delay":
			c.firstTokenDelay, err = secondsUpTo(longestDelay, value)
		case "time-per-token":
			c.timePerToken, err = secondsUpTo(longestToken, value)
		case "load-slowdown":
			c.loadSlowdown, err = within(value, 0, 100)
		case "speed":
			c.speed, err = within(value, 0.01, 100)
		case "spread":
			c.spread, err = within(value, 0, 2)
		case "error-rate":
			rateGiven = true
			c.rates[failed], err = within(value, 0, 1)
		case "hang-rate":
			c.rates[hung], err = within(value, 0, 1)
		case "stall-rate":
			c.rates[stalled], err = within(value, 0, 1)
		case "refuse-rate":
			c.rates[refused], err = within(value, 0, 1)
		case "check-fail-rate":
			c.checkFailRate, err = within(value, 0, 1)
		case "fail-on":
			c.failOn = value
		case "status":
			statusGiven = true
			c.errorStatus, err = strconv.Atoi(value)
			if err == nil && (c.errorStatus < 300 || c.errorStatus > 599) {
				err = fmt.Errorf("%d is not between 300 and 599", c.errorStatus)
			}
		}
		if err != nil {
			return c, fmt.Errorf("--%s %q: %w; correct the value", name, value, err)
		}
	}
	if c.model == "" {
		return c, fmt.Errorf("the model is missing: give its name as the first argument or with --served-model-name")
	}
	sum := 0.0
	for _, rate := range c.rates {
		sum += rate
	}
	if sum > 1+roundingError {
		return c, fmt.Errorf("the rates of errors, hangs, stalls and refusals sum to %v: correct them to at most 1", sum)
	}
	if statusGiven && !rateGiven {
		// A status without a rate means that every request fails with it that has no other fate.
		c.rates[failed] = 1 - sum
	}
	return c, nil
}

func within(value string, least, most float64) (float64, error) {
	parsed, err := strconv.ParseFloat(value, 64)
	if err == nil && !(parsed >= least && parsed <= most) {
		err = fmt.Errorf("%v is not between %v and %v", parsed, least, most)
	}
	return parsed, err
}

func secondsUpTo(most time.Duration, value string) (time.Duration, error) {
	seconds, err := within(value, 0, most.Seconds())
	return time.Duration(seconds * float64(time.Second)), err
}
