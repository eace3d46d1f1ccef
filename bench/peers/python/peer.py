"""The Python peer of bench/peers: cryptofeed's Binance feed as its own connection handler uses it.

peer.py CORPUS...   reads the corpora (see corpus.go), then a line "TASK CORPUS" at a
time, and answers "NS CHECK" (see worker.go). It must open no socket to anywhere. What is not
the peer's (loading, snapshots, checking) is not in NS.
"""
import asyncio
import gc
import os
import sys
import time

from cryptofeed.defines import BINANCE, L2_BOOK
from cryptofeed.exchanges.binance import Binance
from cryptofeed.symbols import Symbols


class Corpus:
    def __init__(self, path):
        self.symbols, self.snapshots, self.frames = [], {}, []
        with open(path, encoding='utf-8') as f:
            for line in f:
                kind, rest = line[0], line[2:].rstrip('\n')
                if kind == 'I':
                    self.symbols.append(rest.split(' ')[0])
                elif kind == 'S':
                    symbol, body = rest.split(' ', 1)
                    self.snapshots[symbol] = body
                elif kind == 'D':
                    self.frames.append(rest)


class Snapshots:
    """Stands in for cryptofeed's HTTP connection."""

    def __init__(self, corpus):
        self.corpus = corpus

    async def read(self, url):
        return self.corpus.snapshots[url.split('symbol=')[1].split('&')[0]]


def normalized(symbol):
    for quote in ('USDT', 'BUSD'):
        if symbol.endswith(quote):
            return symbol[:-len(quote)] + '-' + quote
    raise ValueError(f'{symbol} has an unknown quote')


async def on_book(book, receipt_timestamp):
    pass


def fnv(data):
    h = 0xcbf29ce484222325
    for b in data:
        h = (h ^ b) * 0x100000001b3 & 0xffffffffffffffff
    return h


def check(corpus, feed):
    text, counts = [], [0, 0]
    for symbol in corpus.symbols:
        text.append(f'{symbol}\n')
        book = feed._l2_book[normalized(symbol)].book
        for side, levels in enumerate((book.bids.to_dict(), book.asks.to_dict())):
            counts[side] += len(levels)
            text.extend(f'{px:.8f} {qty:.8f}\n' for px, qty in levels.items())
    return f"{counts[0]}/{counts[1]}/{fnv(''.join(text).encode()):x}"


async def whole(corpus):
    names = {normalized(s): s for s in corpus.symbols}
    Symbols.set(BINANCE, names, {'tick_size': {}, 'instrument_type': {}})
    feed = Binance(symbols=list(names), channels=[L2_BOOK], callbacks={L2_BOOK: on_book})
    feed.http_conn = Snapshots(corpus)
    for symbol in corpus.symbols:
        await feed._snapshot(symbol)
    handle, frames, now = feed.message_handler, corpus.frames, time.time()
    gc.collect()
    start = time.process_time_ns()
    for frame in frames:
        await handle(frame, None, now)
    ns = time.process_time_ns() - start
    return ns, check(corpus, feed)


def main():
    corpora = {os.path.splitext(os.path.basename(p))[0]: Corpus(p) for p in sys.argv[1:]}
    loop = asyncio.new_event_loop()
    for line in sys.stdin:
        task, name = line.split()
        try:
            if task != 'whole':
                raise ValueError(f'no task {task}')
            ns, told = loop.run_until_complete(whole(corpora[name]))
            print(ns, told, flush=True)
        except Exception as e:
            print(f'error {task}: {e!r}'.replace('\n', ' '), flush=True)


main()
