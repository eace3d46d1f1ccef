// Package venuetest is what the tests of the venues share: readers of recordings and of
// JSON that share no code with the decoders, tables of shapes and refusals, changed
// frames, and the comparison of a scanner with fastjson.
//
// It must never be imported by anything but tests.
//
// Invariant: a decoder is never its own oracle.
package venuetest
