package book

import (
	"unsafe"

	"deeptape/hotpath/event"
)

//lint:file-ignore U1000 the assembler uses them

// For foresee_amd64.s.
const (
	levelBytes = unsafe.Sizeof(event.Level{})
	levelPx    = unsafe.Offsetof(event.Level{}.Px)
	levelSide  = unsafe.Offsetof(event.Level{}.Side)
	windowMask = windowTicks - 1
)

// foresee asks the memory for the slots of n levels and the words of their bits, and does
// not wait for them. Go has no word for that outside its runtime. n is at least 1.
//
//go:noescape
func foresee(b *Book, levels *event.Level, n int)
