//go:build planted_chain

package feed

const planted = 1
