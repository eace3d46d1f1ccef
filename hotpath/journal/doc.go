// Package journal keeps the inputs of all feeds on disk, in the order in which
// they were used. It is the only spool of the agent: what is not here cannot be
// derived again.
//
// A journal is a directory of numbered segments and a LOCK file:
//
//	LOCK                 flock of the one writer; holds its pid
//	000000000001.dtj     segments, numbered from 1
//	000000000002.dtj
//	000000000001.dtj.damaged   an original that Fsck has replaced
//	000000000001.dtj.tmp       a repair or packing that did not finish; may be removed
//
// A segment is a header and then blocks, all little-endian:
//
//	header  0  u32  magic "DTJS"         block  0  u32  magic "DTJB"
//	        4  u32  format version               4  u32  stored: bytes of payload
//	        8  u64  segment number               8  u32  raw: payload unpacked
//	       16  i64  ts of its first record      12  u32  records
//	       24  u64  previous segment, 0: none   16  u8   codec, see below
//	       32  u32  blocks in the previous one  17  u8   flags, 0; then u16 0
//	       36  u32  n, feeds; 1<<31: unknown    20  u32  number within the segment
//	       40  n x  {u16 feed, u16 0, u32 0,    24  u64  segment number
//	               u64 pos, i64 ts}             32  i64  ts of its first record
//	           u32  CRC32C of all before        40  u32  CRC32C of the payload
//	           u32  0                           44  u32  CRC32C of bytes 0 to 44
//	                                            48       payload
//
// The codecs: 0 raw, 1 s2 (of before December 2026), 2 hole, 3 zstd, 4 minlz.
//
// The table holds the highest pos and ts of every feed before the segment, so
// that Open reads one segment and not all. A payload is whole input records, one
// after the other (event.AppendInput); a record is never divided. A block holds
// up to 256 KiB, or one larger record.
//
// A block says which segment it belongs to and which block of it it is. So a
// sector that holds an older state, and a block that travelled inside a record,
// are not taken for a block of this place; and a hole is known by the number of
// its blocks, wherever the bytes went.
//
// # What is assumed of the disk
//
// A write may be cut short at any byte, by kill -9, a full disk or an error, but
// what write(2) has taken survives the process. Without fsync a power loss may
// take or mangle anything written since the last one, in any order; with it,
// nothing. Rename and link are atomic. What was once stored may rot: then a
// CRC32C says so.
//
// # What each crash does
//
// kill -9 between Append and Flush: the current block is gone, at most 256 KiB;
// nothing that Flush confirmed is lost.
//
// kill -9 within Flush: the block is whole, or its first bytes are a torn tail.
// Open leaves the tail where it is and begins a new segment: nothing is ever
// truncated that this process did not write itself, so that no judgement made
// in a hurry at start destroys what a later, better look could save. The new
// header's count of blocks makes the tail known as torn for all time.
//
// Power loss: what Sync confirmed is whole. Of what came after, blocks that are
// whole are kept and the rest is damage. How much that can be is the caller's
// choice: whoever calls Sync every 200 ms loses up to 200 ms. Open syncs the
// segment that it recovers before it reports what is in it.
//
// A write fails (no space, I/O error): the segment is cut back to its last whole
// block; if even that fails it is left with its torn tail and the next attempt
// begins a new segment. The block stays in memory and the next Flush writes it
// again: nothing is lost and nothing is there twice.
//
// fsync fails: the kernel may have dropped the pages and will not say so again,
// so the segment is left and the next Flush begins a new one. Later Syncs speak
// for later bytes only; Writer.Unsynced tells what none has confirmed, until Pack and
// Adopt have written it again.
//
// A segment's header fails to be written: the file is removed, or its number is
// skipped.
//
// kill -9 or power loss while a complete segment is packed (Pack, Writer.Adopt): the
// new file is durable, and has been read back, before it takes the old one's name; so
// one of the two is there, whole. What was not finished, Open removes.
//
// Damage within a segment: the reader searches for the next whole block, says
// once what was lost, and goes on. Fsck with repair puts a hole in the place of
// damage, so that the loss stays known and a replay before and after the repair
// tells the same.
//
// This package must never destroy a byte that was confirmed, never return a
// record that its CRC does not cover, never allocate by a length that it has
// not checked, and never read a clock: times come from the records.
//
// Invariants: segment numbers only grow; within a segment block numbers only
// grow, and only damage or a hole makes them jump; a record is in one block; a
// reader sees whole blocks only.
package journal
