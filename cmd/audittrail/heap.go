package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
)

// emitterHeadroom is the garbage that an emitter may have more than the collector would let it. Its live heap is a few MiB while it
// allocates some KiB an event, so that the collector took about a sixth of its CPU, a hundred times a second.
const emitterHeadroom = 24 << 20

// gcHeadroom lets the garbage collector wait for about n bytes more, whatever the live heap is, until release is called. It allocates
// memory that is never touched, so none of it is resident: the collector runs when the heap has doubled, and this counts. A
// higher GOGC would do it too, but multiplies a heap that is large under overload. Where the operator has tuned the collector
// (GOGC, GOMEMLIMIT) it does nothing: a memory limit counts memory that is not touched.
func gcHeadroom(n int) (release func()) {
	if _, tuned := os.LookupEnv("GOGC"); tuned || debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return func() {}
	}
	ballast := make([]byte, n)
	return func() { runtime.KeepAlive(ballast) }
}
