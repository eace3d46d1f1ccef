package agent

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"deeptape/hotpath/journal"
	"deeptape/ilp/line"
	"deeptape/ilp/qdb"
)

// The quarantine is a folder in the journal's: a file for each table, and in it each row
// that QuestDB has refused for what is in it, after a line with the time and the reason. A
// replay derives such rows again with all others, and takes out what it has stored.

func quarantineDir(dir string) string { return filepath.Join(dir, "quarantine") }

// replaying is before the name of a file that a replay has taken up: what is refused
// meanwhile goes into a new file.
const replaying = "replaying-"

// quarantined is a refused row as it stands in a file, with the line of its reason.
type quarantined struct {
	ts   int64 // 0: not known
	text []byte
}

// readQuarantine takes a file apart. What is no row of ours is kept with the row before it.
func readQuarantine(text []byte) (rows []quarantined) {
	for len(text) > 0 {
		reason := bytes.IndexByte(text, '\n') + 1
		_, size := line.Row(text[reason:], 1)
		n := reason + size
		if size == 0 { // an instrument, as JSON; or a file that was cut
			if n = reason + bytes.IndexByte(text[reason:], '\n') + 1; n == reason {
				n = len(text)
			}
		}
		row := quarantined{text: text[:n]}
		if size > 0 {
			at := bytes.TrimRight(text[:n], "\n")
			row.ts, _ = strconv.ParseInt(string(at[bytes.LastIndexByte(at, ' ')+1:]), 10, 64)
		}
		rows, text = append(rows, row), text[n:]
	}
	return rows
}

// quarantineFiles are the names of the files in quarantine; none if there is no folder.
func quarantineFiles(fsys journal.FS, dir string) (names []string) {
	all, _ := fsys.List(quarantineDir(dir)) // without a folder there is no row
	for _, name := range all {
		if strings.HasSuffix(name, ".ilp") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// lookAtQuarantine counts what lies in quarantine, of earlier runs too, for troubles.
func (a *Agent) lookAtQuarantine() error {
	n, from := 0, int64(0)
	for _, name := range quarantineFiles(a.machine.FS, a.cfg.Journal.Dir) {
		text, err := readFile(a.machine.FS, filepath.Join(quarantineDir(a.cfg.Journal.Dir), name))
		if err != nil {
			return fmt.Errorf("cannot look into quarantine: %w", err)
		}
		for _, row := range readQuarantine(text) {
			n++
			if row.ts != 0 && (from == 0 || row.ts < from) {
				from = row.ts
			}
		}
	}
	text := ""
	if n > 0 {
		text = fmt.Sprintf("questdb: %d rows that it refused are in quarantine in %s, each with its reason; when that is mended: `deeptape replay --journal %s%s`", n, quarantineDir(a.cfg.Journal.Dir), a.cfg.Journal.Dir, sinceFlag(from))
	}
	a.inQuarantine.Store(&text)
	return nil
}

// takeUpQuarantine sets aside the files that a replay is to empty.
func takeUpQuarantine(dir string) error {
	for _, name := range quarantineFiles(journal.OS, dir) {
		if strings.HasPrefix(name, replaying) {
			continue // of a replay that was stopped
		}
		file, to := filepath.Join(quarantineDir(dir), name), filepath.Join(quarantineDir(dir), replaying+name)
		text, err := readFile(journal.OS, to)
		if err == nil { // it goes with what an earlier replay did not get to
			var more []byte
			if more, err = readFile(journal.OS, file); err == nil {
				err = replaceFile(journal.OS, to, append(text, more...))
			}
			if err == nil {
				err = journal.OS.Remove(file)
			}
		} else {
			err = journal.OS.Rename(file, to)
		}
		if err != nil {
			return fmt.Errorf("cannot take up the rows in quarantine: %w", err)
		}
	}
	return nil
}

// emptyQuarantine takes out the rows of [from, to) that a replay has stored: all that the
// journal, which begins at first, still holds. It says how many are left.
func emptyQuarantine(dir string, from, to, first int64) (left int, err error) {
	for _, name := range quarantineFiles(journal.OS, dir) {
		if !strings.HasPrefix(name, replaying) {
			continue
		}
		file := filepath.Join(quarantineDir(dir), name)
		text, err := readFile(journal.OS, file)
		if err != nil {
			return left, fmt.Errorf("cannot look into quarantine: %w", err)
		}
		var kept []byte
		for _, row := range readQuarantine(text) {
			whole := from == 0 && to == 0
			if row.ts == 0 && !whole || row.ts != 0 && (row.ts < first || !inWindow(row.ts, from, to)) {
				kept = append(kept, row.text...)
				left++
			}
		}
		if len(kept) > 0 {
			err = replaceFile(journal.OS, file, kept)
		} else {
			err = journal.OS.Remove(file)
		}
		if err != nil {
			return left, fmt.Errorf("cannot take rows out of quarantine: %w", err)
		}
	}
	return left, nil
}

// sinceFlag is the --from of a command that begins at ts; "" where that is not known.
func sinceFlag(ts int64) string {
	if ts == 0 {
		return ""
	}
	return " --from " + strings.Trim(qdb.FormatTime(ts), "'")
}
