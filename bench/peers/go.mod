module deeptape/bench/peers

go 1.26.8

require (
	deeptape v0.0.0
	github.com/bytedance/sonic v1.15.5
	github.com/coder/websocket v1.8.15
	github.com/gobwas/ws v1.5.0
	github.com/google/btree v1.1.3
	github.com/gorilla/websocket v1.5.3
	github.com/puzpuzpuz/xsync/v3 v3.5.1
	github.com/questdb/go-questdb-client/v3 v3.2.0
	github.com/tidwall/btree v1.8.2
	github.com/valyala/fastjson v1.6.10
	golang.org/x/sys v0.49.0
)

require (
	github.com/bytedance/gopkg v0.1.3 // indirect
	github.com/bytedance/sonic/loader v0.5.3 // indirect
	github.com/cloudwego/base64x v0.1.6 // indirect
	github.com/gobwas/httphead v0.1.0 // indirect
	github.com/klauspost/cpuid/v2 v2.2.9 // indirect
	github.com/twitchyliquid64/golang-asm v0.15.1 // indirect
	golang.org/x/arch v0.0.0-20210923205945-b76863e36670 // indirect
)

replace deeptape => ../..
