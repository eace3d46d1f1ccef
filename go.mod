module deeptape

go 1.26.8

require (
	github.com/VictoriaMetrics/metrics v1.35.1
	github.com/alecthomas/kong v1.17.0
	github.com/gobwas/ws v1.5.0
	github.com/goccy/go-yaml v1.19.2
	github.com/google/btree v1.1.3
	github.com/klauspost/compress v1.20.3
	github.com/minio/minlz v1.2.4
	github.com/puzpuzpuz/xsync/v3 v3.5.1
	github.com/questdb/go-questdb-client/v3 v3.2.0
	github.com/tidwall/btree v1.8.2
	github.com/valyala/fastjson v1.6.10
	golang.org/x/sys v0.49.0
)

require (
	github.com/gobwas/httphead v0.1.0 // indirect
	github.com/valyala/fastrand v1.1.0 // indirect
	github.com/valyala/histogram v1.2.0 // indirect
)
