package wire

import "testing"

// A base URL's query goes with every path that is asked of it: glued in front of the path,
// no server understands either.
func TestJoin(t *testing.T) {
	for _, c := range []struct{ base, path, want string }{
		{"wss://h:9443", "/stream?streams=a@depth", "wss://h:9443/stream?streams=a@depth"},
		{"wss://h:9443?timeUnit=MICROSECOND", "/stream?streams=%E5%B8%81@depth", "wss://h:9443/stream?streams=%E5%B8%81@depth&timeUnit=MICROSECOND"},
		{"wss://h/v2?key=a%2Fb", "", "wss://h/v2?key=a%2Fb"},
		{"https://h/proxy?k=1&l=2", "/0/public/AssetPairs", "https://h/proxy/0/public/AssetPairs?k=1&l=2"},
		{"https://h?", "/x", "https://h/x"},
	} {
		if got := Join(c.base, c.path); got != c.want {
			t.Errorf("%s and %s: %s, want %s", c.base, c.path, got, c.want)
		}
	}
}
