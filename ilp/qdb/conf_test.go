package qdb

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseConf(t *testing.T) {
	for conf, want := range map[string]Conf{
		"http::addr=127.0.0.1:9000;": {Addr: "127.0.0.1:9000"},
		"http::addr=localhost":       {Addr: "localhost:9000"},
		"http::addr=:9100;":          {Addr: "127.0.0.1:9100"},
		"http::addr=[::1]:9100;":     {Addr: "[::1]:9100"},
		"http::addr=[::1];":          {Addr: "[::1]:9000"},
		"https::addr=db.example;token=a=b;;c;tls_verify=unsafe_off;":  {Addr: "db.example:9000", HTTPS: true, SkipVerify: true, Token: "a=b;c"},
		"http::addr=h:1;username=u;password=p;":                       {Addr: "h:1", Username: "u", Password: "p"},
		"http::addr=h:1;request_timeout=2500;":                        {Addr: "h:1", RequestTimeout: 2500 * time.Millisecond},
		"http::retry_timeout=10;addr=h:1;auto_flush=off;":             {Addr: "h:1", Ignored: []string{"auto_flush", "retry_timeout"}},
		"http::password=;;;;x;addr=h:1;username=u;protocol_version=2": {Addr: "h:1", Username: "u", Password: ";;x", Ignored: []string{"protocol_version"}},
	} {
		got, err := ParseConf(conf)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParseConf(%q) = %+v, %v; want %+v", conf, got, err, want)
		}
	}
}

func TestParseConfErrors(t *testing.T) {
	for conf, want := range map[string]string{
		"":                                            "must look like",
		"localhost:9000":                              "must look like",
		"tcp::addr=h:9009;":                           `"tcp" cannot say`,
		"ftp::addr=h:1;":                              `unknown protocol "ftp"`,
		"http::":                                      `"addr" is missing`,
		"http::adr=h:1;":                              `unknown key "adr"; did you mean "addr"?`,
		"http::addr=h:1;usrname=x;":                   `unknown key "usrname"; did you mean "username"?`,
		"http::addr=h:1;addr=h:2;":                    `"addr" stands twice`,
		"http::addr=;":                                `"addr" has no value`,
		"http::addr":                                  `"addr" has no value`,
		"http::addr=h:0;":                             "no valid port",
		"http::addr=h:99999;":                         "no valid port",
		"http::addr=http://h:1;":                      "not host:port",
		"http::addr=a:b:c;":                           "not host:port",
		"http::addr=h;username=u;":                    "need each other",
		"http::addr=h;tls_verify=on;x=;":              `unknown key "x"`,
		"http::addr=h;tls_verify=unsafe_off;":         "needs https",
		"https::addr=h;tls_verify=off;":               "may be on or unsafe_off",
		"http::addr=h;request_timeout=1s;":            "milliseconds",
		"http::addr=h;token=t;username=u;password=p;": "exclude each other",
	} {
		_, err := ParseConf(conf)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseConf(%q): %v; want it to say %q", conf, err, want)
		}
	}
}

func TestConfErrorHidesSecrets(t *testing.T) {
	_, err := ParseConf("http::addr=h;username=u;password=hun;;ter2;token=sesame;oops=1;")
	if err == nil || strings.Contains(err.Error(), "ter2") || strings.Contains(err.Error(), "sesame") {
		t.Fatalf("the error shows a secret: %v", err)
	}
}

func TestAuthorize(t *testing.T) {
	for conf, want := range map[string]string{
		"http::addr=h;":                       "",
		"http::addr=h;username=u;password=p;": "Basic dTpw",
		"http::addr=h;token=t;":               "Bearer t",
	} {
		c, err := ParseConf(conf)
		if err != nil {
			t.Fatal(err)
		}
		r, _ := http.NewRequest("GET", c.URL("/exec"), nil)
		c.Authorize(r)
		if got := r.Header.Get("Authorization"); got != want {
			t.Errorf("%q authorizes with %q, want %q", conf, got, want)
		}
	}
}

// A proxy in the environment must not see the rows of a recorder.
func TestNoProxy(t *testing.T) {
	if (Conf{}).NewTransport(1).Proxy != nil {
		t.Fatal("the transport asks for a proxy")
	}
}
