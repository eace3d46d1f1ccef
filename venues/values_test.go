package venues

import (
	"encoding/json"
	"strings"
	"testing"
)

// A text that is refused has too many values in truth, or commas in its texts.
func TestValues(t *testing.T) {
	var count func(v any) int
	count = func(v any) (n int) {
		switch x := v.(type) {
		case []any:
			for _, e := range x {
				n += count(e)
			}
		case map[string]any:
			for _, e := range x {
				n += count(e)
			}
		}
		return n + 1
	}
	for _, text := range []string{`0`, `[]`, `{}`, `[[],{}]`, `{"a":{"b":[1,"2",null,true,[[]]]},"c":[{},{}]}`, `[1,[2,[3,[4]]],{"a":{"b":{}}}]`} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		if got, want := values([]byte(text)), count(v); got < want || got > want+strings.Count(text, "[")+strings.Count(text, "{") {
			t.Errorf("%s: %d values, want %d", text, got, want)
		}
	}
}
