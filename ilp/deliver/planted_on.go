//go:build planted_ack

package deliver

const planted = true
