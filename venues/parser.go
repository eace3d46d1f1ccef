package venues

import (
	"bytes"
	"fmt"

	"github.com/valyala/fastjson"

	"deeptape/hotpath/ledger"
)

// What parsing may cost is bounded by the number of values: fastjson takes up to 540
// bytes for each, since its list of values grows by copies and every old copy stays in
// use until the message is done ([0,0,0,… of 4 MiB takes 1.1 GB, 266 times itself; so
// do lists in lists and empty ones). So 70 MB for the worst message of a venue gone
// mad, and 280 MB for the worst answer about its instruments, once, at the start.
const (
	// A Binance snapshot of 5,000 levels a side has 30,000 values; a Coinbase snapshot
	// is not parsed as one text, see takeOut.
	valuesMax       = 128 << 10
	answerValuesMax = 512 << 10 // exchangeInfo: up to 600 values a symbol

	// Fewer bytes cannot hold more than 32,768 values: a text of one costs two bytes.
	longMessageBytes = 64 << 10
)

// Parser is a fastjson parser whose memory stays bounded.
type Parser struct {
	json fastjson.Parser
	long bool // the last message had more values than a short one can have
}

// Object parses a message that must be a JSON object. It is valid until the next call.
func (p *Parser) Object(text []byte) (*fastjson.Value, ledger.Reason) {
	p.Forget()
	if len(text) > longMessageBytes {
		n := values(text)
		if n > valuesMax {
			return nil, ledger.Oversized
		}
		p.long = n > longMessageBytes/2 // more than a short message can have
	}
	v, err := p.json.ParseBytes(text)
	if err != nil || v.Type() != fastjson.TypeObject {
		return nil, ledger.Malformed
	}
	return v, ledger.Accepted
}

// Forget lets go of the memory that a long message took: each value keeps the longest
// list that it has ever held.
func (p *Parser) Forget() {
	if p.long {
		p.json, p.long = fastjson.Parser{}, false
	}
}

// Oversized says whether a message has too many values to be read.
func Oversized(text []byte) bool {
	return len(text) > longMessageBytes && values(text) > valuesMax
}

// ParseAnswer parses what a venue says of its instruments.
func ParseAnswer(body []byte) (*fastjson.Value, error) {
	if n := values(body); n > answerValuesMax {
		return nil, fmt.Errorf("%d values in %d bytes are more than are taken", n, len(body))
	}
	return fastjson.ParseBytes(body)
}

// values is how many values a JSON text has at most: each but the first follows on a
// bracket, a brace or a comma. Those inside of texts count, too.
func values(text []byte) int {
	return 1 + bytes.Count(text, []byte{','}) + bytes.Count(text, []byte{'['}) + bytes.Count(text, []byte{'{'})
}
