package venues

import "strings"

// What only some venues need. Such a venue has the method of an optional interface
// here; for the others the function of the same name says what holds without it.

type grouper interface {
	Groups(symbols []string) [][]string
}

// Groups splits symbols into those that one InstrumentsRequest may name.
func Groups(v Venue, symbols []string) [][]string {
	if v, ok := v.(grouper); ok {
		return v.Groups(symbols)
	}
	return [][]string{symbols}
}

type pager interface {
	MoreInstruments(symbols []string, answers int, body []byte) (Request, bool)
}

// MoreInstruments is the request for the next part of a list of instruments, after so
// many answers of which body is the last one; ok is false where that was all.
func MoreInstruments(v Venue, symbols []string, answers int, body []byte) (_ Request, ok bool) {
	if v, ok := v.(pager); ok {
		return v.MoreInstruments(symbols, answers, body)
	}
	return Request{}, false
}

type wholeLister interface {
	WholeList() Request
}

// WholeList asks for all that a venue lists where InstrumentsRequest asks for some by
// name; ok is false where that answer is the whole list already.
func WholeList(v Venue) (_ Request, ok bool) {
	if v, ok := v.(wholeLister); ok {
		return v.WholeList(), true
	}
	return Request{}, false
}

type aliaser interface {
	Product(symbol string) string
}

// Product is the name under which the data of a symbol comes: two symbols of one product
// cannot be told apart. It is the symbol itself where a venue has no aliases.
func Product(v Venue, symbol string) string {
	if v, ok := v.(aliaser); ok {
		return v.Product(symbol)
	}
	return symbol
}

type renamer interface {
	Renamed(listed string) string
}

// Renamed is how the stream spells a name that the venue's list spells as listed.
func Renamed(v Venue, listed string) string {
	if v, ok := v.(renamer); ok {
		return v.Renamed(listed)
	}
	return listed
}

// NameSet is a set of names in any case.
type NameSet map[string]bool

// FoldedNames makes the set of names.
func FoldedNames(names []string) NameSet {
	f := NameSet{}
	for _, n := range names {
		f[strings.ToUpper(n)] = true
	}
	return f
}

// Has says whether a name in any case is in the set.
func (f NameSet) Has(name string) bool { return f[strings.ToUpper(name)] }
