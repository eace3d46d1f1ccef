package wire

import "strings"

// Join is the URL of a request or stream: a base, which may have a path and a query of
// its own (wss://HOST/v2?timeUnit=MICROSECOND), and a path that may have a query. The
// queries are put together, the path's first. Neither is written anew, so that a server
// sees the escapes that were given.
func Join(base, path string) string {
	base, extra, _ := strings.Cut(base, "?")
	url := base + path
	switch {
	case extra == "":
		return url
	case strings.Contains(path, "?"):
		return url + "&" + extra
	}
	return url + "?" + extra
}
