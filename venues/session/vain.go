package session

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"

	"deeptape/venues/wire"
)

// vainAfter is how many times in a row a venue may answer a connect with the same HTTP
// status until that is taken for an error that no more of it will mend: a wrong path, a
// wrong query, an address that is banned.
const vainAfter = 10

// vain counts connects that were answered with the same HTTP status in a row. The session
// goes on trying: a venue may mend what is its own.
type vain struct {
	status, times int
	told          atomic.Pointer[string]
}

// failed takes why a connect did not come about. One that was not answered, as while the
// network is away, says nothing of the URL: it neither counts nor ends a row.
func (v *vain) failed(err error) {
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) { // it has been checked, and the next check will say the same
		text := fmt.Sprintf("the venue's certificate is not trusted: %v", err)
		v.told.Store(&text)
		return
	}
	var refused *wire.StatusError
	if !errors.As(err, &refused) {
		return
	}
	if refused.Status != v.status {
		v.status, v.times = refused.Status, 0
		v.told.Store(nil)
	}
	v.times++
	if v.times >= vainAfter {
		text := fmt.Sprintf("%d connects in a row were answered with status %d; look at ws_url: %v", v.times, v.status, err)
		v.told.Store(&text)
	}
}

// connected ends the row.
func (v *vain) connected() {
	v.status, v.times = 0, 0
	v.told.Store(nil)
}

// InVain says that connects are refused again and again with the same HTTP status, or that
// the venue's certificate is not trusted, "" if they are not: of the direct connection, or
// else of the second one. Any goroutine.
func (s *Session) InVain() string {
	if text := s.vain[0].told.Load(); text != nil {
		return *text
	}
	if text := s.vain[1].told.Load(); text != nil {
		return "the second connection: " + *text
	}
	return ""
}
