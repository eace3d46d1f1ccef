package sender

import (
	"io"
	"net/http"
)

// maxAnswer is as much as is read of an answer to rows: QuestDB's longest refusal is some KiB.
const maxAnswer = 64 << 10

// honest is a transport for QuestDB's own client, which follows redirects with the
// credentials, takes any 2xx for "stored" and reads an answer to its end, however long. Of
// what comes through this one, only a 204 is a success, a redirect leads nowhere, and a body
// ends in time.
func honest(t *http.Transport) *http.Transport {
	outer := &http.Transport{}
	for _, scheme := range []string{"http", "https"} {
		outer.RegisterProtocol(scheme, doubtful{t})
	}
	return outer
}

type doubtful struct{ *http.Transport }

func (d doubtful) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := d.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 && resp.StatusCode != http.StatusNoContent {
		resp.StatusCode = http.StatusBadGateway // not QuestDB: it says 204 for rows that it took
		resp.Status = "answer " + resp.Status + " in place of 204"
	}
	resp.Header.Del("Location") // without it, net/http follows nothing
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}
