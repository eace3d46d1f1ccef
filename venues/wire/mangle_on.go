//go:build invariants

package wire

// mangle overwrites a payload whose loan has ended, so that a reader who kept it
// fails loudly instead of now and then.
func mangle(b []byte) {
	for i := range b {
		b[i] = 0xdb
	}
}
