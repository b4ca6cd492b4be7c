package emitters

// Recycle is the interceptor of GRPCOptions, for the benchmark.
var Recycle = recycle
