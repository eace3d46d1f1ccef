// Package wire is the kernel side of a venue: dial, TLS, frames, pings, stamps,
// requests, and the budgets that keep a venue from banning us.
//
//	Conn     one WebSocket connection: whole messages, each with the time of its read
//	Rest     one GET, its answer and its time
//	Clock    wall time, anchored once and carried forward by the monotonic clock
//	Backoff  how long to wait before the next try
//	Budget   how much may be asked for, and when
//
// It must never look into a message: it knows no venue, no JSON and no symbol.
// It must never retry, reconnect or decide that silence is a failure; its caller,
// the session machine's driver, does.
//
// Invariants: a message is handed out once and whole; its stamp is the clock right
// after the read that brought its last byte, and stamps never go back; no memory is
// taken for bytes that have not come; nothing is allocated per message or ping once
// the buffers have grown; every wait ends (a deadline, an interrupt or an error).
package wire

// userAgent names us to the venues; some front ends refuse a client without a name.
const userAgent = "deeptape"
