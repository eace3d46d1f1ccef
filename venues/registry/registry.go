// Package registry lists the venues that deeptape can record. It is the only place
// outside of a venue's folder that names the venue (bench/rooms_test.go).
//
// It must never say anything of a venue beyond that it exists.
//
// Invariant: names are unique, in whatever case. Its tests are those that every venue
// must pass; they find a new one by themselves.
package registry

import (
	"fmt"
	"slices"
	"strings"

	"deeptape/venues"
	"deeptape/venues/binance"
	"deeptape/venues/bybit"
	"deeptape/venues/coinbase"
	"deeptape/venues/kraken"
	"deeptape/venues/okx"
)

// all are the venues that deeptape can record. A new one has its line here.
var all = []venues.Venue{
	binance.Venue{},
	bybit.Spot,
	bybit.Linear,
	coinbase.Venue{},
	kraken.Venue{},
	okx.Venue{},
}

// ByName returns the venue of a name in any case, or an error that lists the names.
func ByName(name string) (venues.Venue, error) {
	for _, v := range all {
		if strings.EqualFold(v.Rules().Name, name) {
			return v, nil
		}
	}
	return nil, fmt.Errorf("unknown venue %q; there are: %s", name, strings.Join(Names(), ", "))
}

// Names lists the venues' names in alphabetical order.
func Names() []string {
	var names []string
	for _, v := range all {
		names = append(names, v.Rules().Name)
	}
	slices.Sort(names)
	return names
}
