package main

import (
	"context"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// The first token is computed in so many steps, so that it feels a load that changes meanwhile.
const firstTokenSteps = 8

// pace imitates the delays of an engine with continuous batching: at most `slots` requests run, the others wait for
// their turn, first come first served; and each step takes longer the more requests run.
type pace struct {
	slots      chan struct{} // nil if all requests run at once
	running    atomic.Int64
	waiting    atomic.Int64
	firstToken time.Duration
	perToken   time.Duration
	slowdown   float64 // how much each running request adds, as a share of the delay without load
	speed      float64
	spread     float64 // of first tokens at the same load: the standard deviation of the logarithm of their delay
}

const (
	// No request takes more than so many times its usual delay, or less than its inverse.
	widestSpread = 8
	// The time per token depends on the request's own prompt less than the first token does. In a simulation of an engine
	// with continuous batching it spreads by 0.1 to 0.2 where first tokens spread by 0.8.
	tokenShare = 0.2
)

func paceOf(c config) *pace {
	p := &pace{firstToken: c.firstTokenDelay, perToken: c.timePerToken, slowdown: c.loadSlowdown, speed: c.speed, spread: c.spread}
	if p.speed == 0 {
		p.speed = 1
	}
	if c.slots > 0 {
		p.slots = make(chan struct{}, c.slots)
	}
	return p
}

// enter waits for a slot; it returns false if the client leaves first. A caller that got one must leave.
func (p *pace) enter(ctx context.Context) bool {
	if p.slots != nil {
		p.waiting.Add(1)
		defer p.waiting.Add(-1)
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
	}
	p.running.Add(1)
	return true
}

func (p *pace) leave() {
	p.running.Add(-1)
	if p.slots != nil {
		<-p.slots
	}
}

// delay is how long something takes at the current load that takes `alone` in an engine without load and slowness.
func (p *pace) delay(alone time.Duration) time.Duration {
	return time.Duration(float64(alone) * (1 + p.slowdown*float64(p.running.Load())) / p.speed)
}

// vary returns a delay of one request, around the usual one as its median: prompts are not equally long.
func vary(usual time.Duration, spread float64) time.Duration {
	if spread == 0 {
		return usual
	}
	times := math.Exp(spread * rand.NormFloat64())
	return time.Duration(float64(usual) * max(1.0/widestSpread, min(widestSpread, times)))
}

// computeFirst waits as long as the first token takes; it returns false if the client leaves first.
func (p *pace) computeFirst(ctx context.Context) bool {
	if p.firstToken == 0 {
		return ctx.Err() == nil
	}
	due, step := time.Now(), vary(p.firstToken, p.spread)/firstTokenSteps
	for range firstTokenSteps {
		due = due.Add(p.delay(step))
		if !waitUntil(ctx, due) {
			return false
		}
	}
	return true
}

// waitUntil returns false if the client leaves first. Times that have passed are not waited for, so that a late timer
// makes no answer longer.
func waitUntil(ctx context.Context, due time.Time) bool {
	wait := time.Until(due)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
