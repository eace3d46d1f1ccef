package feed

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"deeptape/hotpath/event"
)

// ConfigOf reads the configuration of a run from its run record, or from one of its
// keyframes, without deriving. It fails for another input, and for one that does not
// parse. It allocates.
func ConfigOf(in *event.Input) (Config, error) {
	switch data := in.Data; in.Kind {
	case event.InputRun:
		var cfg Config
		if err := json.Unmarshal(data, &cfg); err != nil {
			return cfg, fmt.Errorf("cannot read run record %d of feed %d: %w", in.Pos, in.Feed, err)
		}
		return cfg, nil
	case event.InputKeyframe:
		if len(data) < 4 || uint64(binary.LittleEndian.Uint32(data)) > uint64(len(data)-4) {
			return Config{}, fmt.Errorf("cannot read keyframe %d of feed %d: %w", in.Pos, in.Feed, errShortKeyframe)
		}
		var k struct {
			Config Config `json:"config"`
		}
		if err := json.Unmarshal(data[4:4+binary.LittleEndian.Uint32(data)], &k); err != nil {
			return k.Config, fmt.Errorf("cannot read keyframe %d of feed %d: %w", in.Pos, in.Feed, err)
		}
		return k.Config, nil
	}
	return Config{}, fmt.Errorf("input %d of feed %d (%s) holds no configuration", in.Pos, in.Feed, in.Kind)
}
