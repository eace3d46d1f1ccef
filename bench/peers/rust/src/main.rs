//! The Rust peers of bench/peers: barter-data as its own streams use it, and two parsers.
//!
//! peers CORPUS...   reads the corpora (see corpus.go), then a line "TASK CORPUS" at a
//! time, and answers "NS CHECK" (see worker.go). It must open no socket and no other
//! file. What is not the peer's (loading, checking) is not in NS.

use barter_data::{
    books::{Level, OrderBook},
    event::MarketEvent,
    exchange::binance::{
        book::l2::BinanceOrderBookL2Snapshot,
        spot::l2::{BinanceSpotOrderBookL2Update, BinanceSpotOrderBooksL2Transformer},
    },
    subscription::Map,
    transformer::ExchangeTransformer,
};
use barter_instrument::exchange::ExchangeId;
use barter_integration::{Transformer, subscription::SubscriptionId};
use serde::Deserialize;
use std::{
    collections::HashMap,
    error::Error,
    fmt::Write as _,
    hint::black_box,
    io::{BufRead, Write as _},
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Default)]
struct Corpus {
    symbols: Vec<String>,
    scales: Vec<(u32, u32)>,
    snapshots: Vec<String>,
    combined: Vec<String>, // frames {"stream":…,"data":…}
    bare: Vec<String>,     // the data alone: what barter-data's own subscription brings
    checks: HashMap<String, String>,
}

fn read_corpus(path: &str) -> Result<Corpus> {
    let mut c = Corpus::default();
    for line in std::fs::read_to_string(path)?.lines() {
        let (kind, rest) = line.split_once(' ').ok_or("a line of one word")?;
        match kind {
            "I" => {
                let words: Vec<&str> = rest.split(' ').collect();
                c.symbols.push(words[0].into());
                c.scales.push((words[1].parse()?, words[2].parse()?));
            }
            "S" => c
                .snapshots
                .push(rest.split_once(' ').ok_or("no body")?.1.into()),
            "D" => {
                let at = rest.find(",\"data\":").ok_or("no data")?;
                c.bare.push(rest[at + 8..rest.len() - 1].into());
                c.combined.push(rest.into());
            }
            _ => {}
        }
    }
    Ok(c)
}

/// The processor time of this process, ns.
fn cpu_ns() -> i64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut ts) };
    ts.tv_sec * 1_000_000_000 + ts.tv_nsec
}

struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Fnv(0xcbf29ce484222325)
    }
}

impl std::fmt::Write for Fnv {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        for b in s.bytes() {
            self.0 = (self.0 ^ b as u64).wrapping_mul(0x100000001b3);
        }
        Ok(())
    }
}

// --- barter-data

type Barter = BinanceSpotOrderBooksL2Transformer<usize>;

fn books_of(c: &Corpus) -> Result<(Barter, Vec<OrderBook>)> {
    let mut initial = Vec::new();
    let mut books = Vec::new();
    for (i, body) in c.snapshots.iter().enumerate() {
        let snapshot: BinanceOrderBookL2Snapshot = serde_json::from_str(body)?;
        let event = MarketEvent::from((ExchangeId::BinanceSpot, i, snapshot));
        let mut book = OrderBook::default();
        book.update(&event.kind);
        books.push(book);
        initial.push(event);
    }
    let map: Map<usize> = c
        .symbols
        .iter()
        .enumerate()
        .map(|(i, s)| (SubscriptionId::from(format!("@depth@100ms|{s}")), i))
        .collect();
    let (to_venue, _) = tokio::sync::mpsc::unbounded_channel();
    let transformer = futures::executor::block_on(Barter::init(map, &initial, to_venue))?;
    Ok((transformer, books))
}

fn check_books(c: &Corpus, books: &[OrderBook]) -> String {
    let mut h = Fnv::new();
    let mut counts = [0, 0];
    for (symbol, book) in c.symbols.iter().zip(books) {
        let _ = writeln!(h, "{symbol}");
        for (side, levels) in [book.bids().levels(), book.asks().levels()]
            .into_iter()
            .enumerate()
        {
            counts[side] += levels.len();
            for Level { price, amount } in levels {
                let _ = writeln!(h, "{price:.8} {amount:.8}");
            }
        }
    }
    format!("{}/{}/{:x}", counts[0], counts[1], h.0)
}

/// What a barter stream and its OrderBookL2Manager do with a frame, without their channel
/// and their lock.
fn whole(c: &Corpus) -> Result<(i64, String)> {
    let (mut transformer, mut books) = books_of(c)?;
    let start = cpu_ns();
    for frame in &c.bare {
        let update: BinanceSpotOrderBookL2Update = serde_json::from_str(frame)?;
        for event in transformer.transform(update) {
            let event = event?;
            books[event.instrument].update(&event.kind);
        }
    }
    let ns = cpu_ns() - start;
    Ok((ns, check_books(c, &books)))
}

fn book(c: &Corpus) -> Result<(i64, String)> {
    let (mut transformer, mut books) = books_of(c)?;
    let mut events = Vec::new();
    for frame in &c.bare {
        for event in transformer.transform(serde_json::from_str(frame)?) {
            events.push(event?);
        }
    }
    let start = cpu_ns();
    for event in &events {
        books[event.instrument].update(&event.kind);
    }
    let ns = cpu_ns() - start;
    Ok((ns, check_books(c, &books)))
}

fn parse_barter(c: &mut Corpus) -> Result<(i64, String)> {
    if !c.checks.contains_key("barter") {
        let mut h = Fnv::new();
        for frame in &c.bare {
            let u: BinanceSpotOrderBookL2Update = serde_json::from_str(frame)?;
            writeln!(
                h,
                "{} {} {}",
                u.first_update_id,
                u.last_update_id,
                u.time_exchange.timestamp_millis()
            )?;
            for (side, levels) in [&u.bids, &u.asks].into_iter().enumerate() {
                for l in levels {
                    writeln!(h, "{side} {:.8} {:.8}", l.price, l.amount)?;
                }
            }
        }
        c.checks.insert("barter".into(), format!("{:x}", h.0));
    }
    let start = cpu_ns();
    for frame in &c.bare {
        let update: BinanceSpotOrderBookL2Update = serde_json::from_str(frame)?;
        black_box(&update);
    }
    Ok((cpu_ns() - start, c.checks["barter"].clone()))
}

// --- parsers into what deeptape's decoder makes

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    data: Depth<'a>,
}

#[derive(Deserialize)]
struct Depth<'a> {
    #[serde(rename = "E")]
    time: i64,
    #[serde(rename = "s")]
    symbol: &'a str,
    #[serde(rename = "U")]
    first: i64,
    #[serde(rename = "u")]
    last: i64,
    #[serde(rename = "b", borrow)]
    bids: Vec<(&'a str, &'a str)>,
    #[serde(rename = "a", borrow)]
    asks: Vec<(&'a str, &'a str)>,
}

struct Parsed {
    head: (i64, i64, i64),
    inst: usize,
    levels: Vec<(i64, i64, u8)>,
}

/// Decimal text times 10^scale; none where it is finer than that or no number.
fn fixed(text: &str, scale: u32) -> Option<i64> {
    let mut m: i64 = 0;
    let mut fraction: Option<u32> = None;
    for b in text.bytes() {
        match (b, fraction) {
            (b'.', None) => fraction = Some(0),
            (b'0', Some(n)) if n >= scale => {}
            (b'0'..=b'9', f) if f.is_none_or(|n| n < scale) => {
                m = m.checked_mul(10)?.checked_add((b - b'0') as i64)?;
                fraction = f.map(|n| n + 1);
            }
            _ => return None,
        }
    }
    m.checked_mul(10i64.pow(scale - fraction.unwrap_or(0)))
}

fn exact(c: &Corpus, f: &Frame, out: &mut Parsed) -> Result<()> {
    out.inst = c
        .symbols
        .iter()
        .position(|s| s == f.data.symbol)
        .ok_or("unknown symbol")?;
    let (px, qty) = c.scales[out.inst];
    out.head = (f.data.first, f.data.last, f.data.time);
    out.levels.clear();
    for (side, levels) in [&f.data.bids, &f.data.asks].into_iter().enumerate() {
        for l in levels {
            out.levels.push((
                fixed(l.0, px).ok_or("no price")?,
                fixed(l.1, qty).ok_or("no size")?,
                side as u8,
            ));
        }
    }
    Ok(())
}

fn parse_with(
    c: &mut Corpus,
    name: &str,
    parse: impl for<'a> Fn(&'a str) -> Result<Frame<'a>>,
) -> Result<(i64, String)> {
    let mut out = Parsed {
        head: (0, 0, 0),
        inst: 0,
        levels: Vec::new(),
    };
    if !c.checks.contains_key(name) {
        let mut h = Fnv::new();
        for frame in &c.combined {
            exact(c, &parse(frame)?, &mut out)?;
            let (px_scale, qty_scale) = c.scales[out.inst];
            writeln!(h, "{} {} {}", out.head.0, out.head.1, out.head.2)?;
            for &(px, qty, side) in &out.levels {
                writeln!(
                    h,
                    "{side} {} {}",
                    eight_digits(px, px_scale),
                    eight_digits(qty, qty_scale)
                )?;
            }
        }
        c.checks.insert(name.into(), format!("{:x}", h.0));
    }
    let start = cpu_ns();
    for frame in &c.combined {
        exact(c, &parse(frame)?, &mut out)?;
        black_box(&out.levels);
    }
    Ok((cpu_ns() - start, c.checks[name].clone()))
}

fn eight_digits(m: i64, scale: u32) -> String {
    let all = m as i128 * 10i128.pow(8 - scale);
    format!("{}.{:08}", all / 100_000_000, all % 100_000_000)
}

fn run(task: &str, c: &mut Corpus) -> Result<(i64, String)> {
    match task {
        "whole" => whole(c),
        "book" => book(c),
        "parse-barter" => parse_barter(c),
        "parse-serde" => parse_with(c, task, |s| Ok(serde_json::from_str(s)?)),
        "parse-sonic" => parse_with(c, task, |s| Ok(sonic_rs::from_str(s)?)),
        _ => Err(format!("no task {task}").into()),
    }
}

fn main() -> Result<()> {
    let mut corpora = HashMap::new();
    for path in std::env::args().skip(1) {
        let name = std::path::Path::new(&path)
            .file_stem()
            .ok_or("no name")?
            .to_string_lossy()
            .into_owned();
        corpora.insert(name, read_corpus(&path)?);
    }
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (task, name) = line.split_once(' ').ok_or("a task and a corpus are wanted")?;
        match run(task, corpora.get_mut(name).ok_or("no such corpus")?) {
            Ok((ns, check)) => writeln!(out, "{ns} {check}")?,
            Err(e) => writeln!(out, "error {task}: {e}")?,
        }
        out.flush()?;
    }
    Ok(())
}
