// Package endtoend proves the whole: the deeptape binary, a simulated venue and a
// QuestDB, each a process of its own, with real sockets and files between them. (Where
// a test needs a hand on the simulated venue, that is a server in the test's process.)
//
// It has tests only. They judge what QuestDB holds, by plain SQL over HTTP, against
// a plain reader of the recording (or the seeded market itself) and a slow book.
// They must never import venues, hotpath or ilp: a mistake made there would be
// mirrored here. Prices and sizes are compared as decimal text, never as floats.
//
// Invariant: whatever ends a test ends its processes, too.
package endtoend
