package fixed

import (
	"strconv"
	"testing"
)

var (
	sinkInt   int64
	sinkFloat float64
	sinkBytes []byte
)

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct {
		name, text string
		scale      int8
	}{
		{"px=padded/scale=2", "61737.63000000", 2},
		{"qty=padded/scale=5", "1.54698000", 5},
		{"qty=zero/scale=5", "0.00000000", 5},
		{"px=bare/scale=2", "61737.63", 2},
		{"qty=long/scale=8", "123456.12345678", 8},
	} {
		text := []byte(c.text)
		b.Run("v=own/"+c.name, func(b *testing.B) {
			for b.Loop() {
				sinkInt, _ = Parse(text, c.scale)
			}
		})
		b.Run("v=ParseFloat/"+c.name, func(b *testing.B) {
			s := string(text)
			for b.Loop() {
				sinkFloat, _ = strconv.ParseFloat(s, 64)
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name  string
		m     int64
		scale int8
	}{
		{"px/scale=2", 6173763, 2},
		{"qty/scale=5", 154698, 5},
		{"qty/scale=8", 154698000, 8},
	} {
		b.Run("v=own/"+c.name, func(b *testing.B) {
			for b.Loop() {
				sinkBytes = Append(sinkBytes[:0], c.m, c.scale)
			}
		})
		b.Run("v=AppendFloat/"+c.name, func(b *testing.B) {
			f := Float(c.m, c.scale)
			for b.Loop() {
				sinkBytes = strconv.AppendFloat(sinkBytes[:0], f, 'f', -1, 64)
			}
		})
	}
}

func BenchmarkFloat(b *testing.B) {
	m := int64(6173763)
	for b.Loop() {
		sinkFloat = Float(m, 2)
	}
}
