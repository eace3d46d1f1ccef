package simvenue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/gobwas/ws"
)

const methods = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"

// requestError is an error answer.
type requestError struct {
	code int
	msg  string
}

// request obeys one JSON message of the client and answers it.
func (c *conn) request(msg []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone.Load() {
		return
	}
	id, result, err := c.obeyLocked(msg)
	var out []byte
	if err != nil {
		// The venue's texts hold backquotes and the like: keep them unescaped.
		var text bytes.Buffer
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false)
		e.Encode(err.msg)
		out = fmt.Appendf(out, `{"code":%d,"msg":%s`, err.code, bytes.TrimSpace(text.Bytes()))
		if id != nil {
			out = fmt.Appendf(out, `,"id":%s`, id)
		}
		out = append(out, '}')
	} else {
		out = fmt.Appendf(out, `{"result":%s,"id":%s}`, result, id)
	}
	// Subscriptions made by this request deliver only after mu is released,
	// hence after this answer.
	c.put(outFrame{op: ws.OpText, payload: out})
}

// obeyLocked returns the request's id as it was written (nil where there is no
// valid one) and the result as JSON.
func (c *conn) obeyLocked(msg []byte) (id json.RawMessage, result string, rerr *requestError) {
	invalid := func(format string, args ...any) *requestError {
		return &requestError{2, "Invalid request: " + fmt.Sprintf(format, args...)}
	}
	var any0 any
	if err := json.Unmarshal(msg, &any0); err != nil {
		line, col := 1, 1
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			line, col = place(msg, int(syntax.Offset))
		}
		return nil, "", &requestError{3, fmt.Sprintf("Invalid JSON: expected value at line %d column %d", line, col)}
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(msg, &fields) != nil || fields == nil {
		return nil, "", invalid("invalid type, expected an object")
	}
	if id = fields["id"]; !validID(id) {
		return nil, "", invalid("request ID must be an unsigned integer")
	}
	endLine, endCol := place(msg, len(bytes.TrimSpace(msg)))
	raw, ok := fields["method"]
	if !ok {
		return id, "", invalid("missing field `method` at line %d column %d", endLine, endCol)
	}
	var method string
	if json.Unmarshal(raw, &method) != nil {
		method = string(raw)
	}
	var params []json.RawMessage
	if p, ok := fields["params"]; ok && json.Unmarshal(p, &params) != nil {
		return id, "", invalid("params must be an array")
	}
	switch method {
	case "SUBSCRIBE", "UNSUBSCRIBE":
		if _, ok := fields["params"]; !ok {
			return id, "", invalid("missing field `params` at line %d column %d", endLine, endCol)
		}
		var names []string
		for _, p := range params {
			var name string
			if len(p) == 0 || p[0] != '"' || json.Unmarshal(p, &name) != nil {
				return id, "", invalid("stream name must be a string")
			}
			names = append(names, name)
		}
		if method == "UNSUBSCRIBE" {
			for _, n := range names {
				c.unsubscribeLocked(n)
			}
			return id, "null", nil
		}
		fresh := map[string]bool{}
		for _, n := range names {
			if !c.subs[n] {
				fresh[n] = true
			}
		}
		if len(c.subs)+len(fresh) > maxStreams {
			return id, "", invalid("too many streams, at most %d", maxStreams)
		}
		for _, n := range names {
			c.subscribeLocked(n)
		}
		return id, "null", nil
	case "LIST_SUBSCRIPTIONS":
		if len(params) > 0 {
			return id, "", invalid("too many parameters")
		}
		list, _ := json.Marshal(append([]string{}, c.names...))
		return id, string(list), nil
	case "SET_PROPERTY", "GET_PROPERTY":
		var name string
		if len(params) == 0 || params[0][0] != '"' || json.Unmarshal(params[0], &name) != nil {
			return id, "", invalid("property name must be a string")
		}
		want := 1
		if method == "SET_PROPERTY" {
			want = 2
		}
		if len(params) > want {
			return id, "", invalid("too many parameters")
		}
		if name != "combined" {
			return id, "", &requestError{0, "Unknown property"}
		}
		if method == "GET_PROPERTY" {
			return id, strconv.FormatBool(c.combined), nil
		}
		value := ""
		if len(params) == 2 {
			value = string(params[1])
		}
		if value != "true" && value != "false" {
			return id, "", &requestError{1, "Invalid value type: expected Boolean"}
		}
		c.combined = value == "true"
		return id, "null", nil
	}
	line, col := place(msg, bytes.Index(msg, raw)+len(raw))
	return id, "", invalid("unknown variant `%s`, expected one of %s at line %d column %d", method, methods, line, col)
}

// validID: a signed 64-bit integer, at most 36 letters, digits, - and _, or null.
func validID(id json.RawMessage) bool {
	if len(id) == 0 {
		return false
	}
	if string(id) == "null" {
		return true
	}
	if id[0] != '"' {
		_, err := strconv.ParseInt(string(id), 10, 64)
		return err == nil
	}
	text := id[1 : len(id)-1]
	if len(text) > 36 {
		return false
	}
	for _, b := range text {
		if !(b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '-' || b == '_') {
			return false
		}
	}
	return true
}

// place turns an offset into line and column, from 1.
func place(msg []byte, offset int) (line, col int) {
	offset = max(min(offset, len(msg)), 0)
	line = 1 + bytes.Count(msg[:offset], []byte("\n"))
	col = offset - (bytes.LastIndexByte(msg[:offset], '\n') + 1)
	return line, max(col, 1)
}
