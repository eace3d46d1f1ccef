package agent

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/VictoriaMetrics/metrics"
)

// family is what the samples of one metric name are: what kind Prometheus takes them for,
// and what they mean. A metric without its line here has neither, and fails TestMetrics.
type family struct{ name, kind, help string }

const (
	counter = "counter" // since the start of the process
	gauge   = "gauge"
	summary = "summary" // quantiles, a sum and a count
)

// families are all that /metrics shows, in its order.
var families = []family{
	{"deeptape_frames_total", counter, "Frames by what became of them: every frame received has one outcome."},
	{"deeptape_frames_buffered", gauge, "Frames that wait for a snapshot or for the other connection."},
	{"deeptape_frames_unjournalled_total", counter, "Frames that were dropped because the journal could not take them; coverage says backpressure."},
	{"deeptape_messages_too_long_total", counter, "Messages that were refused by their length."},
	{"deeptape_scan_declined_total", counter, "Frames that the scanner handed to the whole parser: slow, and not wrong."},
	{"deeptape_unknown_frames_total", counter, "Frames that no decoder knows; the status page shows a sample of each kind."},
	{"deeptape_unknown_frame_kinds", gauge, "Kinds of frames that no decoder knows."},
	{"deeptape_ledger_difference", gauge, "What the double entry of frames and rows differs by; anything but 0 is a bug."},

	{"deeptape_connects_total", counter, "Connections that were made."},
	{"deeptape_connect_failures_total", counter, "Connections that could not be made."},
	{"deeptape_disconnects_total", counter, "Connections that ended."},
	{"deeptape_dead_connections_total", counter, "Connections that were given up because they brought nothing."},
	{"deeptape_commands_total", counter, "Commands sent to venues."},
	{"deeptape_commands_held_total", counter, "Commands that had to wait for a venue's limit."},

	{"deeptape_symbol_coverage_state", gauge, "Of each stream of a symbol: 0 gap, 1 unverified, 2 verified, -1 where the stream is not recorded."},
	{"deeptape_symbol_messages_total", counter, "Messages of each stream of a symbol that made rows."},
	{"deeptape_symbol_last_message_timestamp_seconds", gauge, "When the last message of the symbol's book came, by our clock, in Unix time; 0 before the first."},
	{"deeptape_symbol_gaps_total", counter, "Gaps of the symbol's book."},
	{"deeptape_symbol_snapshot_requests_total", counter, "Snapshots that were asked for: resyncs and audits."},
	{"deeptape_symbol_book_levels", gauge, "Levels in the symbol's book, by side."},
	{"deeptape_symbol_refused", gauge, "1 while the venue refuses a stream of the symbol; the status page has its words."},
	{"deeptape_coverage_symbols", gauge, "Symbols whose stream is in a state now."},
	{"deeptape_audits_total", counter, "Books that were held against a fresh snapshot."},
	{"deeptape_audits_given_up_total", counter, "Audits whose snapshot never met the book at the same id."},
	{"deeptape_audit_levels_total", counter, "Levels that audits have compared."},
	{"deeptape_audit_levels_wrong_total", counter, "Levels that were not as the venue had them, and were put right."},
	{"deeptape_audit_ghosts_total", counter, "Levels among them that the venue did not have at all."},
	{"deeptape_audit_match_ratio", gauge, "Share of a book's levels that were equal at its last audit; no number before the first."},

	{"deeptape_rows_derived_total", counter, "Rows made of what venues sent, by table."},
	{"deeptape_rows_acknowledged_total", counter, "Rows that QuestDB has acknowledged."},
	{"deeptape_rows_quarantined_total", counter, "Rows that QuestDB refused for what is in them; they lie in the folder quarantine."},
	{"deeptape_rows_in_ring", gauge, "Rows that wait to be encoded."},
	{"deeptape_rows_in_flight", gauge, "Rows in batches that QuestDB has not acknowledged."},
	{"deeptape_rows_deferred", gauge, "Rows that found no room and are derived again from the journal."},
	{"deeptape_ring_high_water_bytes", gauge, "The most that a ring has ever held."},
	{"deeptape_latency_seconds", summary, "Time between two stages of a frame's way; from the venue's clock it may be negative."},

	{"deeptape_journal_bytes_total", counter, "Bytes written to the journal."},
	{"deeptape_journal_records_total", counter, "Inputs written to the journal."},
	{"deeptape_journal_lag_inputs", gauge, "Inputs that are not in the journal file yet."},
	{"deeptape_journal_sync_errors_total", counter, "Times that the disk did not make the journal durable (fsync failed)."},
	{"deeptape_journal_unsynced_bytes", gauge, "Bytes of the journal that a power loss may take because a sync of them failed; 0 once their segments are written again or removed."},
	{"deeptape_journal_packed_segments_total", counter, "Complete segments that were packed again."},
	{"deeptape_journal_packed_saved_bytes_total", counter, "Bytes that packing again has saved."},
	{"deeptape_questdb_batches_total", counter, "Batches sent to QuestDB."},
	{"deeptape_questdb_sent_bytes_total", counter, "Bytes of batches sent to QuestDB."},
	{"deeptape_questdb_retries_total", counter, "Batches that were sent again."},
	{"deeptape_questdb_catch_ups_total", counter, "Times that rows were derived again from the journal."},
	{"deeptape_questdb_lag_inputs", gauge, "Inputs whose rows QuestDB has not acknowledged."},
	{"deeptape_questdb_lag_transactions", gauge, "Transactions that QuestDB has acknowledged and not yet applied."},
	{"deeptape_questdb_lag_seconds", gauge, "Time since QuestDB's last answer while rows wait for it, else 0."},
	{"deeptape_questdb_seconds_since_ack", gauge, "Time since QuestDB's last answer."},
	{"deeptape_troubles", gauge, "What /healthz complains of, by part."},

	{"process_start_time_seconds", gauge, "When the process started, in Unix time."},
	{"process_cpu_seconds_total", counter, "Processor time of the process, its own and the kernel's for it."},
	{"process_resident_memory_bytes", gauge, "Memory that the process holds."},
	{"process_resident_memory_peak_bytes", gauge, "The most memory that the process has ever held."},
	{"process_virtual_memory_bytes", gauge, "Address space of the process."},
	{"process_open_fds", gauge, "Open file descriptors."},
	{"process_max_fds", gauge, "File descriptors that may be open."},
	{"process_num_threads", gauge, "Threads of the process."},
	{"process_io_read_bytes_total", counter, "Bytes that the process has read, sockets included."},
	{"process_io_written_bytes_total", counter, "Bytes that the process has written, sockets included."},
	{"process_io_storage_written_bytes_total", counter, "Bytes that the process has had written to disks."},
	{"process_major_pagefaults_total", counter, "Page faults that had to read from a disk."},
	{"go_goroutines", gauge, "Goroutines."},
	{"go_gomaxprocs", gauge, "Processors that the Go runtime uses."},
	{"go_memlimit_bytes", gauge, "GOMEMLIMIT."},
	{"go_memstats_heap_inuse_bytes", gauge, "Memory of the Go heap that is in use."},
	{"go_memstats_alloc_bytes_total", counter, "Bytes allocated on the Go heap."},
	{"go_memstats_mallocs_total", counter, "Objects allocated on the Go heap."},
	{"go_gc_cpu_seconds_total", counter, "Processor time of the garbage collector."},
	{"go_gc_duration_seconds", summary, "Pauses of the garbage collector."},
	{"go_info", gauge, "The version of Go that built the process."},
}

// expose writes samples, as the metrics package prints them, family by family, each behind
// its help and its type. Samples of the process that no family names are left out: there
// are some sixty of the Go runtime that nobody asks for. One of ours that is not named
// stands at the end, without either.
func expose(w io.Writer, samples []byte) error {
	of := map[string][]byte{}
	for line := range bytes.Lines(samples) {
		name := familyOf(string(line[:max(0, bytes.IndexAny(line, "{ "))]))
		of[name] = append(of[name], line...)
	}
	for _, f := range families {
		if len(of[f.name]) == 0 {
			continue
		}
		if _, err := fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n%s", f.name, f.help, f.name, f.kind, of[f.name]); err != nil {
			return err
		}
		delete(of, f.name)
	}
	for name, lines := range of {
		if strings.HasPrefix(name, "deeptape_") {
			if _, err := w.Write(lines); err != nil {
				return err
			}
		}
	}
	return nil
}

// familyOf is the name of the family to which a sample belongs: the sum and the count of a
// summary bear names of their own.
func familyOf(sample string) string {
	for _, f := range families {
		if f.kind == summary && (sample == f.name+"_sum" || sample == f.name+"_count") {
			return f.name
		}
	}
	return sample
}

// writeMetrics writes all that /metrics shows.
func writeMetrics(w io.Writer, set *metrics.Set) error {
	var samples bytes.Buffer
	set.WritePrometheus(&samples)
	metrics.WriteProcessMetrics(&samples)
	return expose(w, samples.Bytes())
}
