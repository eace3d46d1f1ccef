//go:build planted_slow

package book

//go:noinline
func (b *Book) dawdle() { b.offGrid += b.offGrid &^ b.offGrid }
