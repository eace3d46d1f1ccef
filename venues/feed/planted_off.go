//go:build !planted_chain

package feed

// planted is a bug that bench/vsim must find when it is switched on: a diff that skips
// one id is taken for the next one.
const planted = 0
