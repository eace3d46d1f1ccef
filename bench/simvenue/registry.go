package simvenue

import (
	"fmt"
	"sort"
)

// protocols are the dialects of the simulated venues. A new one has its line here, and its
// file.
var protocols = map[string]func(*Venue) protocol{
	"binance":      func(v *Venue) protocol { return &binance{v: v} },
	"coinbase":     func(v *Venue) protocol { return &coinbase{v: v} },
	"kraken":       func(v *Venue) protocol { return &kraken{v: v} },
	"okx":          func(v *Venue) protocol { return &okx{v: v} },
	"bybit":        func(v *Venue) protocol { return &bybit{v: v, category: "spot"} },
	"bybit_linear": func(v *Venue) protocol { return &bybit{v: v, category: "linear"} },
}

// Venues are the names of those that are simulated, in order.
func Venues() []string {
	var names []string
	for n := range protocols {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

func unknownVenue(name string) error {
	return fmt.Errorf("no venue %q is simulated, the nearest is %q", name, nearest(name, Venues()))
}

// factsOf is what a venue's name tells. It panics for a name that is no venue's.
func factsOf(venue string) facts {
	protocol := protocols[venue]
	if protocol == nil {
		panic(unknownVenue(venue))
	}
	return protocol(nil).facts()
}

// mainVenue is the one that is meant where none is named.
func mainVenue() string {
	for _, name := range Venues() {
		if factsOf(name).main {
			return name
		}
	}
	panic("BUG: no venue is the main one")
}
