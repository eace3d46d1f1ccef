package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// table is the report, Markdown.
func table(contests []*contest, corpora []*corpus, rounds int) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# deeptape against its peers\n")
	p("Written by `make peers`; do not edit. ×: how many times as long as deeptape the peer takes.\n")
	p("| stage | messages | peer | ns/message | least .. most | ns/level | allocs/message | × | how |")
	p("|---|---|---|--:|--:|--:|--:|--:|---|")
	for _, k := range contests {
		for i, q := range k.peers {
			stage, corpus := k.group, k.corpus
			if i > 0 {
				stage, corpus = "", ""
			}
			median, least, most := k.perMessage(q)
			perLevel, allocs := "", "-"
			messages, levels := k.in(q)
			if levels > 0 {
				perLevel = fmt.Sprintf("%.1f", median*messages/levels)
			}
			if a := float64(q.allocs) / messages; a >= 0 {
				allocs = fmt.Sprintf("%.1f", a)
			}
			ratio := "1"
			if i > 0 {
				ratio = fmt.Sprintf("%.2f", k.ratio(q, k.peers[0], len(q.samples)))
			}
			p("| %s | %s | %s | %.1f | %.1f .. %.1f | %s | %s | %s | %s |", stage, corpus, q.name, median, least, most, perLevel, allocs, ratio, q.notes)
		}
	}
	p("\n## What is done\n")
	for _, k := range contests {
		p("* %s, %s: %s.", k.group, k.corpus, k.what)
	}
	p("\n## On what\n")
	for _, c := range corpora {
		var symbols []string
		for _, inst := range c.insts {
			symbols = append(symbols, inst.Symbol)
		}
		bytes := 0
		for _, f := range c.frames {
			bytes += len(f)
		}
		over := ""
		if c.times > 1 {
			over = fmt.Sprintf(" (%d times over, with ids that go on)", c.times)
		}
		p("* %s: %s, recorded off the wire%s; %d book messages of %.1f levels and %d bytes on average; books at the end (bids/asks/FNV-1a of their text): %s.",
			c.name, strings.Join(symbols, " "), over, len(c.frames), float64(c.levels)/float64(len(c.frames)), bytes/len(c.frames), c.wantBook)
	}
	p("\n## How\n")
	p("%d rounds of each peer (more where a gate was missed and tried again: all of them count) after %d to warm up, in turn (A B C A B C); ns/message is the median, × the median of the ratios of one turn. A round begins with the books of the REST snapshot, and to load that is not counted. ns are processor time of the whole process, collector included, but where wall time is said. After every round the books (parsers: all ids, times and digits; readers: a sum over all messages; encoders: all bytes) were compared with what the recording's text gives. All begin with the same snapshot, 1,000 levels a side where it is BTCUSDT's (barter-data would ask for 100). barter-data gets bare frames, as from its own subscription; all others the combined stream's. Rust is built for release with fat LTO, one codegen unit and the machine's own instructions; Go as \"go build\" does. In a network namespace without a way out.\n", rounds, warmRounds)
	p("## From the frame to the book\n")
	for _, k := range contests {
		for _, q := range k.peers {
			if least := k.atLeast[q.name]; least > 0 {
				must := fmt.Sprintf("must be %.0f", least)
				if !k.gated {
					must = fmt.Sprintf("no gate; that is %.0f on the busy market", least)
				}
				p("* %s: %s takes %.1f times as long as deeptape (%s), and %.1f times as long as deeptape's whole feed, which makes the rows as well.",
					k.corpus, q.name, k.ratio(q, k.peers[0], len(q.samples)), must, k.ratio(q, k.peers[1], len(q.samples)))
			}
		}
	}
	p("")
	p("Date: %s. Machine: %s, %d processors. %s.", time.Now().UTC().Format("2006-01-02"), cpuModel(), runtime.NumCPU(), runtime.Version())
	p("Versions: %s.", strings.Join(versions(), ", "))
	return b.String()
}

func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	m := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(info)
	if m == nil {
		return runtime.GOARCH
	}
	return string(m[1])
}

func versions() []string {
	all := []string{"deeptape " + output("git", "rev-parse", "--short", "HEAD")}
	peers := []string{"fastjson", "sonic", "gorilla/websocket", "coder/websocket", "gobwas/ws", "tidwall/btree", "google/btree", "xsync", "go-questdb-client"}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if slices.ContainsFunc(peers, func(p string) bool { return strings.Contains(d.Path+"/", "/"+p+"/") }) {
				all = append(all, strings.TrimPrefix(d.Path, "github.com/")+" "+d.Version)
			}
		}
	}
	lock, _ := os.ReadFile("rust/Cargo.lock")
	for _, crate := range []string{"barter-data", "serde_json", "sonic-rs"} {
		if m := regexp.MustCompile(`name = "` + crate + `"\nversion = "(.*)"`).FindSubmatch(lock); m != nil {
			all = append(all, crate+" "+string(m[1]))
		}
	}
	all = append(all, output("rustc", "--version"))
	pins, _ := os.ReadFile("python/requirements.txt")
	for _, m := range regexp.MustCompile(`(?m)^(cryptofeed|yapic\.json|order_book)==(.*)$`).FindAllSubmatch(pins, -1) {
		all = append(all, string(m[1])+" "+string(m[2]))
	}
	return append(all, output(buildDir+"/"+venvDir+"/bin/python", "--version"))
}

func output(command string, args ...string) string {
	out, err := exec.Command(command, args...).Output()
	if err != nil {
		return "(unknown)"
	}
	return strings.TrimSpace(string(out))
}
