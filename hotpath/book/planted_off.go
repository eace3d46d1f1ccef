//go:build !planted_slow

package book

// dawdle is nothing. With the tag it is a slowness of a few instructions a level, which
// the gate in bench must see.
func (b *Book) dawdle() {}
