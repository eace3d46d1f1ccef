package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// keyError is a value that cannot be, and the key that holds it, such as
// venues.binance.symbols[0].
type keyError struct {
	key string
	err error
}

func (e *keyError) Error() string { return e.key + ": " + e.err.Error() }
func (e *keyError) Unwrap() error { return e.err }

func wrong(key, format string, args ...any) error {
	return &keyError{key, fmt.Errorf(format, args...)}
}

// Keys by the place that they stand in; a venue's stand under "venues.*".
var keysIn = map[string][]string{
	"":         {"questdb", "journal", "listen", "top_levels", "depth_bps", "quotes", "rings", "quarantine", "table_prefix", "venues"},
	"journal":  {"dir", "segment", "keep", "max", "sync"},
	"rings":    {"inputs", "rows"},
	"venues.*": {"symbols", "ws_url", "rest_url", "depth", "lines", "audit", "reconnect_every"},
}

// explain turns the decoder's error into one line with the place and the key, and
// for an unknown key the nearest right one.
func explain(name string, text []byte, err error) error {
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		tok := unknown.Token
		path := keyAt(text, tok)
		return fmt.Errorf("%s:%d:%d: unknown key %q%s", name, tok.Position.Line, tok.Position.Column, path, hint(path, tok.Value))
	}
	var value *valueError
	if errors.As(err, &value) {
		return at(name, text, value.tok, value.Error())
	}
	var typed *yaml.TypeError
	if errors.As(err, &typed) && kinds[typed.DstType.Kind()] != "" {
		return at(name, text, typed.Token, fmt.Sprintf("%q is not %s", typed.Token.Value, kinds[typed.DstType.Kind()]))
	}
	var other *yaml.UnexpectedNodeTypeError
	if errors.As(err, &other) && other.Expected == ast.SequenceType && other.Actual == ast.StringType {
		return at(name, text, other.Token, fmt.Sprintf("%q is not a list; write [%s]", other.Token.Value, other.Token.Value))
	}
	var known yaml.Error
	if errors.As(err, &known) && known.GetToken() != nil {
		return at(name, text, known.GetToken(), strings.Join(strings.Fields(known.GetMessage()), " "))
	}
	return fmt.Errorf("%s: %w", name, err)
}

// fractions refuses a number that has been cut to the whole number that its key takes:
// YAML's reader makes 10 of 10.5, and says nothing.
func fractions(name string, text []byte, c *Config) error {
	type venue struct {
		Depth float64 `yaml:"depth"`
		Lines float64 `yaml:"lines"`
	}
	read := struct {
		TopLevels float64          `yaml:"top_levels"`
		Venues    map[string]venue `yaml:"venues"`
	}{TopLevels: float64(Default().TopLevels)}
	if err := yaml.Unmarshal(text, &read); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	cut := func(key string, number float64, whole int) error {
		if number == float64(whole) {
			return nil
		}
		return fmt.Errorf("%s%s: %s: %g is not a whole number", name, place(text, key), key, number)
	}
	errs := []error{cut("top_levels", read.TopLevels, c.TopLevels)}
	for _, name := range slices.Sorted(maps.Keys(c.Venues)) {
		key, v, is := "venues."+name, read.Venues[name], c.Venues[name]
		errs = append(errs, cut(key+".depth", v.Depth, is.Depth), cut(key+".lines", v.Lines, is.Lines))
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func at(name string, text []byte, tok *token.Token, what string) error {
	path := keyAt(text, tok)
	if path != "" {
		path += ": "
	}
	return fmt.Errorf("%s:%d:%d: %s%s", name, tok.Position.Line, tok.Position.Column, path, what)
}

// kinds are the values that keys may have, in words.
var kinds = map[reflect.Kind]string{
	reflect.Int: "a whole number", reflect.Float64: "a number", reflect.Bool: "true or false", reflect.String: "a text",
}

// valueError is a value that cannot be read.
type valueError struct {
	tok *token.Token
	err error
}

func (e *valueError) Error() string { return e.err.Error() }

// hint says which key was meant: one of the same place, or where it belongs.
func hint(path, key string) string {
	in := ""
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		in = path[:i]
	}
	if strings.HasPrefix(in, "venues.") {
		in = "venues.*"
	}
	if near := nearest(key, keysIn[in]); near != "" {
		return near
	}
	for _, place := range []string{"", "journal", "venues.*"} {
		if slices.Contains(keysIn[place], key) {
			if place == "" {
				return "; it belongs to the top level"
			}
			return fmt.Sprintf("; it belongs under %s", strings.Replace(place, "*", "NAME", 1))
		}
	}
	return fmt.Sprintf("; there are: %s", strings.Join(keysIn[in], ", "))
}

// keyAt is the key of the node at a token, such as venues.binance.symbols[0].
func keyAt(text []byte, tok *token.Token) string {
	f := &finder{line: tok.Position.Line, column: tok.Position.Column}
	walk(text, f)
	return f.path
}

// place is ":line:column" of a key, or "" if the text does not have it.
func place(text []byte, key string) string {
	f := &finder{want: key}
	walk(text, f)
	if f.line == 0 {
		return ""
	}
	return fmt.Sprintf(":%d:%d", f.line, f.column)
}

// PlaceOfSymbol is "FILE:line:column: venues.NAME.symbols[N]: " where a configuration file
// names a symbol of a venue, in any case, and "" where it does not, as where a command line
// names it.
func PlaceOfSymbol(path, venue, symbol string) string {
	text, err := os.ReadFile(path)
	if err != nil { // standard input has been read, and is gone
		return ""
	}
	var c Config
	if err := yaml.Unmarshal(text, &c); err != nil {
		return ""
	}
	for name, v := range c.Venues {
		for i, s := range v.Symbols {
			if strings.EqualFold(name, venue) && strings.EqualFold(strings.TrimSpace(s), symbol) {
				key := fmt.Sprintf("venues.%s.symbols[%d]", name, i)
				return path + place(text, key) + ": " + key + ": "
			}
		}
	}
	return ""
}

func walk(text []byte, f *finder) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return
	}
	for _, doc := range file.Docs {
		if doc.Body != nil {
			ast.Walk(f, doc.Body)
		}
	}
}

// finder looks for a place and finds the key, or the other way round.
type finder struct {
	want         string
	line, column int
	path         string
}

func (f *finder) Visit(n ast.Node) ast.Visitor {
	tok := n.GetToken()
	if pair, ok := n.(*ast.MappingValueNode); ok { // whose own token is the colon
		tok = pair.Key.GetToken()
	}
	if tok == nil || tok.Position == nil {
		return f
	}
	path := strings.TrimPrefix(strings.TrimPrefix(n.GetPath(), "$"), ".")
	if f.want != "" {
		if path == f.want && f.line == 0 {
			f.line, f.column = tok.Position.Line, tok.Position.Column
		}
	} else if tok.Position.Line == f.line && tok.Position.Column == f.column && len(path) >= len(f.path) {
		f.path = path
	}
	return f
}
