// Package linetest reads line protocol back: the other half of a pair assertion
// with package line, and the mouth of a simulated QuestDB.
//
// It is written from the protocol's description, and must never import package
// line: a mistake there must not be mirrored here. It refuses what QuestDB 9.3.4
// refuses while parsing, and also what QuestDB takes but would store wrongly (a
// row without a time). It allocates freely.
package linetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Kinds of values beside int64, float64 and bool.
type (
	Symbol string      // of a symbol column
	Text   string      // of a STRING or VARCHAR column
	Nanos  int64       // of a timestamp column, suffix n
	Matrix [][]float64 // DOUBLE[][]
	Vector []float64   // DOUBLE[]
)

// Column is one value of a row.
type Column struct {
	Name  string
	Value any
}

// Row is one line.
type Row struct {
	Table   string
	Columns []Column // symbols first, then the others, as written
	Ts      int64    // ns
}

// Get is the value of a column, nil if the row does not have it.
func (r *Row) Get(name string) any {
	for _, c := range r.Columns {
		if c.Name == name {
			return c.Value
		}
	}
	return nil
}

// Decode reads a whole request. An error names the line, counted from 1.
func Decode(b []byte) ([]Row, error) {
	var rows []Row
	for len(b) > 0 {
		d := decoder{b: b}
		row, err := d.row()
		if err != nil {
			return rows, fmt.Errorf("line %d: %w", len(rows)+1, err)
		}
		rows = append(rows, row)
		b = b[d.at:]
	}
	return rows, nil
}

type decoder struct {
	b  []byte
	at int
}

func (d *decoder) row() (Row, error) {
	var row Row
	var stop byte
	var err error
	if row.Table, stop, err = d.word(", "); err != nil {
		return row, err
	}
	if row.Table == "" {
		return row, errors.New("no table")
	}
	add := func(name string, value any) error {
		if name == "" {
			return errors.New("a column without a name")
		}
		if row.Get(name) != nil {
			return fmt.Errorf("column %q stands twice", name)
		}
		row.Columns = append(row.Columns, Column{name, value})
		return nil
	}
	for stop == ',' {
		name, _, err := d.word("=")
		if err != nil {
			return row, err
		}
		var value string
		if value, stop, err = d.word(", "); err != nil {
			return row, err
		}
		if err := add(name, Symbol(value)); err != nil {
			return row, err
		}
	}
	for {
		name, _, err := d.word("=")
		if err != nil {
			return row, err
		}
		value, err := d.value()
		if err != nil {
			return row, fmt.Errorf("column %q: %w", name, err)
		}
		if err := add(name, value); err != nil {
			return row, err
		}
		if d.at >= len(d.b) {
			return row, errors.New("no time")
		}
		stop = d.b[d.at]
		d.at++
		if stop == ' ' {
			break
		}
		if stop != ',' {
			return row, fmt.Errorf("%q after column %q", stop, name)
		}
	}
	end := bytes.IndexByte(d.b[d.at:], '\n')
	if end < 0 {
		return row, errors.New("no line end")
	}
	row.Ts, err = strconv.ParseInt(string(d.b[d.at:d.at+end]), 10, 64)
	d.at += end + 1
	if err == nil && row.Ts < 0 {
		err = errors.New("time before 1970")
	}
	return row, err
}

// word reads up to one of the stop bytes; a backslash takes the next byte as it is.
func (d *decoder) word(stops string) (string, byte, error) {
	var w []byte
	for d.at < len(d.b) {
		c := d.b[d.at]
		d.at++
		switch {
		case c == '\\' && d.at < len(d.b):
			w = append(w, d.b[d.at])
			d.at++
		case bytes.IndexByte([]byte(stops), c) >= 0:
			return string(w), c, nil
		case bytes.IndexByte([]byte(" ,=\n\r"), c) >= 0:
			return "", 0, fmt.Errorf("bare %q in %q", c, w)
		default:
			w = append(w, c)
		}
	}
	return "", 0, fmt.Errorf("line ends in %q", w)
}

func (d *decoder) value() (any, error) {
	rest := d.b[d.at:]
	if len(rest) == 0 {
		return nil, errors.New("no value")
	}
	switch rest[0] {
	case '"':
		return d.text()
	case '=':
		d.at++
		return d.binary()
	}
	end := bytes.IndexAny(rest, ", \n")
	if end < 1 {
		return nil, errors.New("no value")
	}
	word := string(rest[:end])
	d.at += end
	digits := word[:end-1]
	switch word[end-1] {
	case 'i':
		return strconv.ParseInt(digits, 10, 64)
	case 'n':
		v, err := strconv.ParseInt(digits, 10, 64)
		return Nanos(v), err
	case 't', 'T', 'f', 'F':
		if end == 1 {
			return word == "t" || word == "T", nil
		}
	}
	return strconv.ParseFloat(word, 64)
}

func (d *decoder) text() (any, error) {
	var w []byte
	for i := d.at + 1; i < len(d.b); i++ {
		switch c := d.b[i]; c {
		case '"':
			d.at = i + 1
			return Text(w), nil
		case '\\':
			i++
			if i < len(d.b) {
				w = append(w, d.b[i])
			}
		case '\n':
			return nil, errors.New("bare line end in a text")
		default:
			w = append(w, c)
		}
	}
	return nil, errors.New("text is not closed")
}

func (d *decoder) take(n int) ([]byte, error) {
	if n < 0 || len(d.b)-d.at < n {
		return nil, errors.New("binary value is cut short")
	}
	d.at += n
	return d.b[d.at-n : d.at], nil
}

func (d *decoder) double() (float64, error) {
	b, err := d.take(8)
	if err != nil {
		return 0, err
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b)), nil
}

func (d *decoder) binary() (any, error) {
	kind, err := d.take(1)
	if err != nil {
		return nil, err
	}
	switch kind[0] {
	case 0x10:
		return d.double()
	case 0x0e:
		return d.array()
	}
	return nil, fmt.Errorf("unknown binary kind %#x", kind[0])
}

func (d *decoder) array() (any, error) {
	head, err := d.take(2)
	if err != nil {
		return nil, err
	}
	if head[0] != 0x0a {
		return nil, fmt.Errorf("unknown element kind %#x", head[0])
	}
	dims := int(head[1])
	if dims != 1 && dims != 2 {
		return nil, fmt.Errorf("%d dimensions", dims)
	}
	shape := []int{1, 0}
	for i := 2 - dims; i < 2; i++ {
		b, err := d.take(4)
		if err != nil {
			return nil, err
		}
		shape[i] = int(binary.LittleEndian.Uint32(b))
	}
	if shape[0] > len(d.b) || shape[1] > len(d.b) || shape[0]*shape[1]*8 > len(d.b)-d.at {
		return nil, errors.New("array is cut short")
	}
	m := make(Matrix, shape[0])
	for i := range m {
		m[i] = make([]float64, shape[1])
		for j := range m[i] {
			m[i][j], _ = d.double()
		}
	}
	if dims == 1 {
		return Vector(m[0]), nil
	}
	return m, nil
}
