//go:build !race

package vsim

const raceOn = false
