package qdb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// errCSV marks an export that is not in QuestDB's CSV dialect.
var errCSV = errors.New("bad CSV")

// csvReader reads QuestDB's dialect of CSV: text values are quoted, with doubled
// quotes and with JSON's backslash escapes for control characters, so that a
// record is always one line; a null is nothing at all, not even quotes.
type csvReader struct {
	r    *bufio.Reader
	line []byte   // of the current record, unescaped in place
	row  [][]byte // borrows from line
	rows int
}

func newCSVReader(r io.Reader) *csvReader {
	return &csvReader{r: bufio.NewReaderSize(r, 1<<16)}
}

// next returns the next record, io.EOF after the last. It is valid until the
// next call.
func (c *csvReader) next() ([][]byte, error) {
	c.line = c.line[:0]
	for {
		part, err := c.r.ReadSlice('\n')
		c.line = append(c.line, part...)
		if len(c.line) > maxRecordBytes {
			return nil, fmt.Errorf("%w in record %d: it is longer than %d MiB", errCSV, c.rows+1, maxRecordBytes>>20)
		}
		if err == nil {
			break
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err == io.EOF && len(c.line) > 0 {
			// QuestDB ends each record with a line end: this one was cut.
			return nil, io.ErrUnexpectedEOF
		}
		return nil, err
	}
	c.rows++
	line := c.line[:len(c.line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return c.split(line)
}

func (c *csvReader) split(line []byte) ([][]byte, error) {
	c.row = c.row[:0]
	at := 0
	for {
		if at < len(line) && line[at] == '"' {
			value, n, err := unquote(line[at:])
			if err != nil {
				return nil, fmt.Errorf("%w in record %d, byte %d: %v", errCSV, c.rows, at, err)
			}
			c.row = append(c.row, value)
			at += n
			if at < len(line) && line[at] != ',' {
				return nil, fmt.Errorf("%w in record %d, byte %d: text after a closing quote", errCSV, c.rows, at)
			}
		} else {
			end := at
			for end < len(line) && line[end] != ',' {
				end++
			}
			if end == at {
				c.row = append(c.row, nil)
			} else {
				c.row = append(c.row, line[at:end:end])
			}
			at = end
		}
		if at == len(line) {
			return c.row, nil
		}
		at++ // the comma
	}
}

// unquote reads the quoted value at the start of b in place and returns it with
// the number of bytes it took, quotes included.
func unquote(b []byte) (value []byte, n int, err error) {
	w := 1
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '"':
			if i+1 < len(b) && b[i+1] == '"' {
				b[w] = '"'
				w++
				i++
				continue
			}
			return b[1:w:w], i + 1, nil
		case '\\':
			if i+1 >= len(b) {
				return nil, 0, errors.New("escape without a letter")
			}
			i++
			switch e := b[i]; e {
			case '\\', '/':
				b[w] = e
			case 'n':
				b[w] = '\n'
			case 'r':
				b[w] = '\r'
			case 't':
				b[w] = '\t'
			case 'b':
				b[w] = '\b'
			case 'f':
				b[w] = '\f'
			case 'u':
				if i+4 >= len(b) {
					return nil, 0, errors.New("escape is cut short")
				}
				v, err := strconv.ParseUint(string(b[i+1:i+5]), 16, 16)
				if err != nil {
					return nil, 0, errors.New("escape is not hexadecimal")
				}
				// At most three bytes in place of six: the write stays behind the read.
				w += utf8.EncodeRune(b[w:], rune(v)) - 1
				i += 4
			default:
				return nil, 0, fmt.Errorf("unknown escape %q", e)
			}
			w++
		default:
			b[w] = b[i]
			w++
		}
	}
	return nil, 0, errors.New("quote is not closed")
}
