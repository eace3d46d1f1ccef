package venues

import (
	"github.com/valyala/fastjson"

	"deeptape/hotpath/event"
)

// RFC3339Time reads a venue time in RFC 3339 that is in UTC and says so with a Z.
func RFC3339Time(v *fastjson.Value, key string) (int64, bool) {
	f := v.Get(key)
	if f == nil {
		return event.Null, false
	}
	text, err := f.StringBytes()
	if err != nil {
		return event.Null, false
	}
	return RFC3339(text)
}

var daysBefore = [13]int64{0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365} // in a year of 365

// RFC3339 reads 2006-01-02T15:04:05Z with up to nine digits after a point, exactly
// to the nanosecond. A year up to 1970 is a venue's way to say that it has no time.
func RFC3339(t []byte) (ns int64, ok bool) {
	const whole = len("2006-01-02T15:04:05")
	if len(t) <= whole || t[4] != '-' || t[7] != '-' || t[10] != 'T' || t[13] != ':' || t[16] != ':' || t[len(t)-1] != 'Z' {
		return event.Null, false
	}
	year, month, day := digits(t[:4]), digits(t[5:7]), digits(t[8:10])
	hour, minute, second := digits(t[11:13]), digits(t[14:16]), digits(t[17:whole])
	if frac := t[whole : len(t)-1]; len(frac) > 0 {
		if frac[0] != '.' || len(frac) > len(".000000000") {
			return event.Null, false
		}
		if ns = digits(frac[1:]); ns < 0 {
			return event.Null, false
		}
		for range len(".000000000") - len(frac) {
			ns *= 10
		}
	}
	leap := int64(0)
	if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		leap = 1
	}
	if year < 0 || year > 2261 || month < 1 || month > 12 || day < 1 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return event.Null, false // the year 2262 does not fit into 63 bits
	}
	february, afterFebruary := int64(0), int64(0)
	if month == 2 {
		february = leap
	} else if month > 2 {
		afterFebruary = leap
	}
	if day > daysBefore[month]-daysBefore[month-1]+february {
		return event.Null, false
	}
	if year <= 1970 {
		return event.Null, true
	}
	before := year - 1 // whole years since the year 1; 719,162 days of them are before 1970
	days := before*365 + before/4 - before/100 + before/400 - 719_162 + daysBefore[month-1] + afterFebruary + day - 1
	return ((days*24+hour)*60+minute)*60*1e9 + second*1e9 + ns, true
}

// digits reads a number of one to nine digits; -1 is none.
func digits(t []byte) int64 {
	if len(t) == 0 {
		return -1
	}
	n := int64(0)
	for _, c := range t {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int64(c-'0')
	}
	return n
}
