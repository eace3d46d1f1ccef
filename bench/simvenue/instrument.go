package simvenue

import (
	"fmt"
	"strings"
)

// instrument is what exchangeInfo tells about a symbol.
type instrument struct {
	symbol, base, quote string
	tick, step          string // eight decimals
}

// quoteAssets that a symbol may end in, longest first where one ends another.
var quoteAssets = []string{"FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "JPY"}

func newInstrument(symbol string, pxDecimals, qtyDecimals int) instrument {
	in := instrument{symbol: symbol, base: symbol, quote: "USDT", tick: step(pxDecimals), step: step(qtyDecimals)}
	for _, q := range quoteAssets {
		if base, ok := strings.CutSuffix(symbol, q); ok && base != "" {
			in.base, in.quote = base, q
			break
		}
	}
	return in
}

// step is 10^-decimals in the venue's eight decimals.
func step(decimals int) string {
	n := int64(1)
	for d := decimals; d < 8; d++ {
		n *= 10
	}
	return string(appendDecimal(nil, n))
}

func (in instrument) json() string {
	return fmt.Sprintf(`{"symbol":%q,"status":"TRADING","baseAsset":%q,"baseAssetPrecision":8,"quoteAsset":%q,"quotePrecision":8,"quoteAssetPrecision":8,"baseCommissionPrecision":8,"quoteCommissionPrecision":8,"orderTypes":["LIMIT","LIMIT_MAKER","MARKET"],"icebergAllowed":true,"ocoAllowed":true,"isSpotTradingAllowed":true,"isMarginTradingAllowed":false,"filters":[{"filterType":"PRICE_FILTER","minPrice":%q,"maxPrice":"1000000.00000000","tickSize":%q},{"filterType":"LOT_SIZE","minQty":%q,"maxQty":"9000.00000000","stepSize":%q},{"filterType":"NOTIONAL","minNotional":"5.00000000","applyMinToMarket":true,"maxNotional":"9000000.00000000","applyMaxToMarket":false,"avgPriceMins":5}],"permissions":[],"permissionSets":[["SPOT"]]}`,
		in.symbol, in.base, in.quote, in.tick, in.tick, in.step, in.step)
}
