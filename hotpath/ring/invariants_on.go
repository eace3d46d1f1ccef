//go:build invariants

package ring

// invariants: released records are overwritten before the producer may reuse them.
const invariants = true
