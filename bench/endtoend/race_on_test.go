//go:build race

package endtoend

// race: the binary is built with the race detector as well.
const race = true
