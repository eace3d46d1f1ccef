//go:build !invariants

package wire

// mangle does nothing in a normal build; see mangle_on.go.
func mangle([]byte) {}
