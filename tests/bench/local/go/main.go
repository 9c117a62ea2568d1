// SPDX-License-Identifier: LGPL-2.1-or-later

// Go's package context.
package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"
)

var sink int

// The thread's own time, so that a busy machine does not count, and what the collector does beside it neither.
func now() float64 {
	var u syscall.Rusage
	syscall.Getrusage(1, &u) // RUSAGE_THREAD
	return float64(u.Utime.Nano() + u.Stime.Nano())
}

func measure(name string, n int, f func()) {
	start := now()
	for i := 0; i < n; i++ {
		f()
	}
	fmt.Printf("%s %.3f\n", name, (now() - start)/float64(n))
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func wide(parent context.Context, name string, n int) {
	top, cancel := context.WithCancel(parent)
	all := make([]context.Context, n)
	before := heap()
	for i := range all {
		all[i], _ = context.WithCancel(top)
	}
	if n >= 1000000 {
		fmt.Printf("bytes %.1f\n", float64(heap()-before)/float64(n))
	}
	start := time.Now() // too short for the thread's clock
	cancel()
	fmt.Printf("%s %.3f\n", name, float64(time.Since(start).Nanoseconds())/float64(n))
	runtime.KeepAlive(all)
}

type key int

func main() {
	runtime.LockOSThread()
	parent, cancel := context.WithCancel(context.Background())
	defer cancel()
	deep := parent
	for i := 0; i < 1000; i++ {
		deep, _ = context.WithCancel(deep)
	}
	timed, stop := context.WithTimeout(parent, time.Hour)
	defer stop()

	check := func(ctx context.Context) func() {
		return func() {
			if ctx.Err() != nil {
				sink++
			}
		}
	}
	measure("check", 20000000, check(parent))
	measure("check-deep", 20000000, check(deep))
	measure("check-deadline", 20000000, check(timed))
	measure("derive", 3000000, func() { _, c := context.WithCancel(parent); c() })
	measure("derive-timeout", 1000000, func() { _, c := context.WithTimeout(parent, 1000*time.Second); c() })
	measure("done-fd", 3000000, func() {
		ctx, c := context.WithCancel(parent)
		if ctx.Done() == nil {
			sink++
		}
		c()
	})
	measure("callback", 1000000, func() { context.AfterFunc(parent, func() {})() })

	ctx := context.WithValue(parent, key(100), 1)
	for i := 0; i < 10; i++ {
		ctx = context.WithValue(ctx, key(i), 1)
	}
	measure("value", 10000000, func() {
		if ctx.Value(key(100)) != nil {
			sink++
		}
	})
	wide(parent, "cancel-1000", 1000)
	wide(parent, "cancel-100000", 100000)
	wide(parent, "cancel-1000000", 1000000)

	n := 1000000
	all := make([]context.Context, n)
	stops := make([]context.CancelFunc, n)
	before := heap()
	start := now()
	for i := range all {
		all[i], stops[i] = context.WithTimeout(parent, 1000*time.Second+time.Duration(i)*time.Microsecond)
	}
	fmt.Printf("deadlines %.3f\n", (now() - start)/float64(n))
	fmt.Printf("deadline-bytes %.1f\n", float64(heap()-before)/float64(n))
	for _, s := range stops {
		s()
	}
	all, stops = nil, nil
	runtime.GC()

	var wg sync.WaitGroup
	rounds := 1000000
	began := time.Now()
	for t := 0; t < 2; t++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; i < rounds; i++ {
				_, c := context.WithCancel(parent)
				c()
			}
		}()
	}
	wg.Wait()
	fmt.Printf("two-threads %.3f\n", 2*float64(rounds)/float64(time.Since(began).Nanoseconds())*1e3)
}
