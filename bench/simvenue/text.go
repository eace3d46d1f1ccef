package simvenue

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/valyala/fastjson"
)

// rfc3339 writes a time with so many decimals of a second.
func rfc3339(ns int64, decimals int) string {
	return time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05." + strings.Repeat("0", decimals) + "Z")
}

// rfc3339Trimmed writes a time in nanoseconds without zeros at its end.
func rfc3339Trimmed(ns int64) string {
	return time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.999999999Z")
}

// wrap puts a bare frame into the envelope of a combined stream.
func wrap(stream string, bare []byte) []byte {
	out := make([]byte, 0, len(bare)+len(stream)+22)
	out = append(out, `{"stream":"`...)
	out = append(out, stream...)
	out = append(out, `","data":`...)
	out = append(out, bare...)
	return append(out, '}')
}

func indexOf(b []byte, s string) int { return bytes.Index(b, []byte(s)) }

// quoted is a string as JSON, without the escapes that only HTML needs.
func quoted(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(s)
	return strings.TrimSuffix(b.String(), "\n")
}

// setPairs calls set for every ["px","qty",...] of a side.
func setPairs(bid bool, levels []*fastjson.Value, set func(bid bool, px, qty, more string) error) error {
	for _, l := range levels {
		if err := set(bid, string(l.GetStringBytes("0")), string(l.GetStringBytes("1")), string(l.GetStringBytes("3"))); err != nil {
			return err
		}
	}
	return nil
}

// joinJSON writes parts with commas between them.
func joinJSON(out []byte, parts [][]byte) []byte {
	return append(out, bytes.Join(parts, []byte(","))...)
}
