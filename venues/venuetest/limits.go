package venuetest

import (
	"fmt"
	"testing"

	"deeptape/venues"
)

// Limit is what a venue's sheet says of a limit, and what the venue's Rules have.
type Limit struct {
	Sheet     string
	Got, Want any
}

// CheckLimits holds a venue's Rules to its sheet. "(?)" marks what the sheet has from
// hearsay, or does not have: the number is then our own, and stricter than what others
// get away with.
func CheckLimits(t *testing.T, limits []Limit) {
	t.Helper()
	for _, l := range limits {
		if fmt.Sprint(l.Got) != fmt.Sprint(l.Want) {
			t.Errorf("%s: the rules have %v, want %v", l.Sheet, l.Got, l.Want)
		}
	}
}

// Connects is a venue's limit of new connections in words.
func Connects(r *venues.Rules) string {
	return fmt.Sprintf("%d in %d s", r.ConnectsPerWindow, r.ConnectWindowNs/1e9)
}

// Commands is a venue's limit of commands in words.
func Commands(r *venues.Rules) string {
	if r.CommandsOfAddress {
		return fmt.Sprintf("%d a second for the address", r.CommandsPerSecond)
	}
	return fmt.Sprintf("%d a second on a connection", r.CommandsPerSecond)
}
