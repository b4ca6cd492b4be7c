package stream

import "testing"

// The vectors of org.apache.kafka.common.utils.UtilsTest#testMurmur2, masked as BuiltInPartitioner does.
var javaVectors = map[string]int32{
	"21":                         -973932308,
	"foobar":                     -790332482,
	"a-little-bit-long-string":   -985981536,
	"a-little-bit-longer-string": -1486304829,
	"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
	"abc": 479470107,
}

func TestMurmur2MatchesKafkasJavaClient(t *testing.T) {
	for key, want := range javaVectors {
		want &= 0x7fffffff
		if got := Murmur2([]byte(key)); got != want {
			t.Errorf("Murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}

func TestHasherIsMurmur2OverAllWrites(t *testing.T) {
	h := NewHasher()
	for range 2 {
		for key, want := range javaVectors {
			h.Reset()
			_, _ = h.Write([]byte(key[:1]))
			_, _ = h.Write([]byte(key[1:]))
			if got := int32(h.Sum32()); got != want&0x7fffffff {
				t.Errorf("hasher(%q) = %d, want %d", key, got, want&0x7fffffff)
			}
		}
	}
}

func FuzzPartitionIsInRange(f *testing.F) {
	f.Add("acme/payments/api", int32(12))
	f.Fuzz(func(t *testing.T, key string, n int32) {
		if n <= 0 {
			t.Skip()
		}
		if p := Partition(key, n); p < 0 || p >= n {
			t.Errorf("Partition(%q, %d) = %d", key, n, p)
		}
	})
}
