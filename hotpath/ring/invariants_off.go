//go:build !invariants

package ring

const invariants = false
