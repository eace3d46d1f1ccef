//go:build !race

package venues

const raceOn = false
