package qdb

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A certificate that is not trusted and a wrong password are wrong configurations: no
// retry helps, and neither is an unreachable QuestDB.
func TestWrongConf(t *testing.T) {
	status := 0
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "https://")
	for _, c := range []struct {
		conf   string
		status int
		want   []string
	}{
		{"https::addr=" + addr + ";", 204, []string{addr, "not trusted", "unknown authority", "tls_verify=unsafe_off"}},
		{"https::addr=" + addr + ";tls_verify=unsafe_off;username=u;password=p;", 401, []string{"401", "password"}},
		{"https::addr=" + addr + ";tls_verify=unsafe_off;token=t;", 403, []string{"403", "token"}},
	} {
		status = c.status
		conf, err := ParseConf(c.conf)
		if err != nil {
			t.Fatal(err)
		}
		db := Open(conf)
		err = db.Ping(t.Context())
		db.Close()
		var wrong *WrongConfError
		if !errors.As(err, &wrong) || errors.Is(err, ErrUnreachable) {
			t.Errorf("%d: %v", c.status, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%v: should say %q", err, w)
			}
		}
	}
}
