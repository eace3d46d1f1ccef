package feed

import (
	"encoding/binary"
	"encoding/json"
	"testing"

	"deeptape/hotpath/event"
)

// FuzzConfigOf: any bytes are refused or are a configuration; a length that reaches
// out of them is refused.
func FuzzConfigOf(f *testing.F) {
	text, _ := json.Marshal(Config{Venue: "binance", Instruments: []event.Instrument{{Symbol: "A"}}})
	f.Add(text)
	f.Add([]byte(`{"config":` + string(text) + `}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, n := range []uint32{uint32(len(data)), uint32(len(data)) + 1, 1 << 31} {
			in := event.Input{InputHead: event.InputHead{Kind: event.InputKeyframe}, Data: append(binary.LittleEndian.AppendUint32(nil, n), data...)}
			_, err := ConfigOf(&in)
			var k keyframe
			valid := n == uint32(len(data)) && json.Unmarshal(data, &struct{ Config *Config }{&k.Config}) == nil
			if (err == nil) != valid {
				t.Errorf("length %d of %d: %v", n, len(data), err)
			}
		}
		run := event.Input{InputHead: event.InputHead{Kind: event.InputRun}, Data: data}
		_, err := ConfigOf(&run)
		if (err == nil) != (json.Unmarshal(data, &Config{}) == nil) {
			t.Errorf("run record: %v", err)
		}
		run.Kind = event.InputFrame
		if _, err := ConfigOf(&run); err == nil {
			t.Error("a frame is taken for a configuration")
		}
	})
}
