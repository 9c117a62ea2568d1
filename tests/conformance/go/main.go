// SPDX-License-Identifier: LGPL-2.1-or-later

// The same scripts as ../script.c, on Go's own package context.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	steps = 40
	nKeys = 4
)

type key int

type callback struct {
	ctx     context.Context
	stop    func() bool
	runs    atomic.Int32
	stopped int
}

var (
	all       []context.Context
	cancels   []func(error) // nil: not one that is cancelled by itself
	callbacks []*callback
	state     uint64
	base      time.Time
	scale     time.Duration
	hash      uint64
	verbose   bool
	waited    bool
	armed     bool
	out       = bufio.NewWriter(os.Stdout)
)

func draw(n uint64) uint64 {
	state = state*6364136223846793005 + 1442695040888963407
	return (state >> 33) % n
}

func say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if verbose {
		out.WriteString(text)
	}
	for i := 0; i < len(text); i++ {
		hash = (hash ^ uint64(text[i])) * 1099511628211
	}
}

func add(ctx context.Context, cancel func(error)) {
	all = append(all, ctx)
	cancels = append(cancels, cancel)
}

// Go's WithDeadlineCause gives a cancel function without a cause; with one it takes a child of its own, which has the
// same deadline, error and cause in all that a program can see.
func deriveDeadline(parent context.Context, offset time.Duration, step int, withCause bool) {
	var cause error
	if withCause {
		cause = errors.New("d" + strconv.Itoa(step))
	}
	timed, stop := context.WithDeadlineCause(parent, base.Add(offset), cause)
	ctx, cancel := context.WithCancelCause(timed)
	add(ctx, func(err error) {
		cancel(err)
		stop()
	})
}

func settle() {
	for _, c := range callbacks {
		for c.stopped < 0 && c.ctx.Err() != nil && c.runs.Load() == 0 {
			time.Sleep(20 * time.Microsecond)
		}
	}
}

func describe() {
	now := time.Now()
	for i, ctx := range all {
		err, cause := "-", "-"
		if e := ctx.Err(); e == context.Canceled {
			err = "C"
		} else if e == context.DeadlineExceeded {
			err = "D"
		}
		if c := context.Cause(ctx); c != nil {
			cause = c.Error()
		}
		say("%d:%s,%s,", i, err, cause)
		if d, ok := ctx.Deadline(); !ok {
			say("-")
		} else if !d.After(now) {
			say("past")
		} else {
			say("%d", d.Sub(base).Microseconds())
		}
		for k := 0; k < nKeys; k++ {
			v, _ := ctx.Value(key(k)).(int)
			say(",%d", v)
		}
		say(" ")
	}
	for i, c := range callbacks {
		say("f%d:%d,%d ", i, c.runs.Load(), c.stopped)
	}
}

func late() bool {
	return time.Since(base) > scale*9/10
}

func exit(code int) {
	out.Flush()
	os.Exit(code)
}

func wait() {
	waited = true
	if late() {
		exit(75)
	}
	time.Sleep(time.Until(base.Add(scale * 3 / 2)))
	// The runtime's timers run the cancels on goroutines of their own.
	for _, ctx := range all {
		if d, ok := ctx.Deadline(); ok && time.Now().After(d) {
			<-ctx.Done()
		}
	}
}

func doStep(step int, timed bool) {
	what := draw(100)
	i := draw(uint64(len(all)))
	ctx := all[i]
	number, choice := draw(1000), draw(4)
	far := time.Duration(3600+number)*time.Second + time.Duration(step)*time.Microsecond

	switch {
	case what < 20:
		add(context.WithCancelCause(ctx))
	case what < 28:
		deriveDeadline(ctx, far, step, choice < 2)
	case what < 32:
		deriveDeadline(ctx, -time.Second-time.Duration(step)*time.Microsecond, step, choice < 2)
	case what < 40:
		if timed && !waited && !armed {
			armed = true
			far = scale + time.Duration(number)*time.Microsecond
		}
		deriveDeadline(ctx, far, step, choice < 2)
	case what < 52:
		add(context.WithValue(ctx, key(choice), step+1), nil)
	case what < 58:
		add(context.WithoutCancel(ctx), nil)
	case what < 60:
		c, stop := context.WithTimeout(ctx, 0)
		add(c, func(error) { stop() })
	case what < 78:
		if cancels[i] != nil {
			var cause error
			if choice < 2 {
				cause = errors.New("c" + strconv.Itoa(step))
			}
			cancels[i](cause)
		}
	case what < 88:
		c := &callback{ctx: ctx, stopped: -1}
		c.stop = context.AfterFunc(ctx, func() { c.runs.Add(1) })
		callbacks = append(callbacks, c)
	case what < 94:
		if len(callbacks) > 0 {
			c := callbacks[number%uint64(len(callbacks))]
			stopped := 0
			if c.stop() {
				stopped = 1
			}
			if c.stopped < 0 {
				c.stopped = stopped
			}
		}
	default:
		if timed && !waited {
			wait()
		}
	}
}

func run(seed uint64) {
	timed := seed%16 == 0
	state, waited, armed = seed, false, false
	all, cancels, callbacks = nil, nil, nil
	base = time.Now()
	add(context.Background(), nil)
	for step := 0; step < steps; step++ {
		hash = 14695981039346656037
		doStep(step, timed)
		if timed && !waited && late() {
			exit(75)
		}
		settle()
		describe()
		fmt.Fprintf(out, "%d %d %016x\n", seed, step, hash)
	}
	for _, c := range callbacks {
		c.stop()
	}
	for _, cancel := range cancels {
		if cancel != nil {
			cancel(nil)
		}
	}
}

func main() {
	first, _ := strconv.ParseUint(os.Args[1], 10, 64)
	count, _ := strconv.ParseUint(os.Args[2], 10, 64)
	msec, _ := strconv.Atoi(os.Args[3])
	scale = time.Duration(msec) * time.Millisecond
	verbose = len(os.Args) > 4
	for seed := first; seed < first+count; seed++ {
		run(seed)
	}
	exit(0)
}
