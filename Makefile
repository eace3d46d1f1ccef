# The logic is in Go; these are the words for it.
# All checks, but for ST1003 ("Ts" is the column ts in the field's words, not an
# initialism) and ST1000 (bench/imports_test.go checks package comments, also where a
# build tag hides a package).
STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.7.0 -checks all,-ST1003,-ST1000
GATE = go test -count=1 $(TESTFLAGS)

.PHONY: help build cross demo capture quick test arm64 race soak sim fuzz rig bench bench-compare gates peers fmt lint ci clean
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -ts '|' 2>/dev/null || sed -n 's/^\([a-z-]*\):.*## /  make \1: /p' $(MAKEFILE_LIST)

# One static binary: without cgo it asks for no C library, and -trimpath keeps the builder's
# folders out of it. -buildvcs lets --version say which commit it is.
GO_BUILD = CGO_ENABLED=0 go build -trimpath -buildvcs=auto
OUT = bin/deeptape
build: ## bin/deeptape
	$(GO_BUILD) -o $(OUT) ./cmd/deeptape

PLATFORMS = linux/amd64 linux/arm64 darwin/arm64
cross: ## bin/deeptape-OS-ARCH for each platform that we build for
	for p in $(PLATFORMS); do GOOS=$${p%/*} GOARCH=$${p#*/} $(GO_BUILD) -o bin/deeptape-$${p%/*}-$${p#*/} ./cmd/deeptape || exit 1; done

demo: build ## record simulated venues into a real QuestDB and prove it; KEEP=1 leaves it running
	bin/deeptape demo $(if $(KEEP),--keep)

capture: build ## record; ARGS="binance:BTCUSDT --for 10m"
	bin/deeptape capture $(ARGS)

quick: ## what one runs between edits: vet, and the tests that start no database and no storm
	go vet ./...
	go test -short -skip Storm $(TESTFLAGS) ./cmd/config ./cmd/agent ./hotpath/... ./ilp/... ./venues/...

test: ## vet, and every test
	go vet ./...
	go test $(TESTFLAGS) ./...

# What starts goroutines, locks, or serves. The rest is one goroutine's arithmetic, which
# the detector slows ten times and has nothing to say of; it runs inside of these. So does
# bench/vsim's, whose tasks take one step at a time.
RACED = $(filter-out ./bench/vsim,$(shell grep -rlE --include='*.go' '^\s+go [[:alpha:]]|\.Go.func|^\s+"sync["/]|^\s+"net/http["/]' bench cmd hotpath ilp venues | grep -v ^bench/peers | sed 's:^:./:; s:/[^/]*$$::' | sort -u))
race: ## the race detector, on every package that has something to race
	go test -race $(TESTFLAGS) $(RACED)

soak: ## the agent killed 200 times under load; KILLS=n, SEED=n for the same moments again
	DEEPTAPE_KILLS=$(or $(KILLS),200) DEEPTAPE_SEED=$(SEED) go test -count=1 -v -timeout=60m -run 'TestKilled$$' ./bench/endtoend

sim: ## the whole agent on a simulated machine, in virtual time: SEED=n shows one run, RUNS=n makes many
	DEEPTAPE_SIM_SEED=$(or $(SEED),$(shell date +%s)000) DEEPTAPE_SIM_RUNS=$(or $(RUNS),$(if $(SEED),,100)) GOGC=400 go test -count=1 -v $(TESTFLAGS) -run '^TestSim$$' ./bench/vsim

rig: build ## simulator, agent and QuestDB as processes; PROFILE=calm|peak|flood FOR=60s, COST=5 compares with QuestDB's ceiling
	go run ./bench/rig -profile $(or $(PROFILE),$(if $(COST),flood,calm)) -for $(or $(FOR),$(if $(COST),10m,60s)) $(if $(COST),-cost $(COST))

# TestKill starts its own binary, which only qemu can run. qemu takes ten times as long, so
# the storms are left to the other tests.
arm64: ## the tests of hotpath and venues as an arm64 program, under qemu-user
	CGO_ENABLED=0 GOARCH=arm64 go test -short -exec qemu-aarch64-static -skip 'Storm|^TestKill$$' $(TESTFLAGS) ./hotpath/... ./venues/...

fuzz: ## the scanners against fastjson, any bytes; FUZZTIME=1m for each target
	for what in Decimal Pairs; do go test -run '^$$' -fuzz "^Fuzz$$what\$$" -fuzztime $(or $(FUZZTIME),1m) ./hotpath/scan || exit 1; done
	for folder in $$(go list -f '{{.ImportPath}}' ./venues/...); do \
		for what in $$(go test -list '^FuzzScan' $$folder | grep ^Fuzz); do go test -run '^$$' -fuzz "^$$what\$$" -fuzztime $(or $(FUZZTIME),1m) $$folder || exit 1; done; done

bench: ## benchmarks, with allocations; BENCH=regexp picks some
	go test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem ./...

bench-compare: ## benchmarks of BASE=rev against the working tree, in turn; BENCH=regexp, COUNT=n
	go run ./bench/compare -bench '$(or $(BENCH),.)' -count $(or $(COUNT),10) $(or $(BASE),$(error say BASE=rev))

gates: ## allocations, layouts, ledger; instructions and ratios within bench/budgets.go; zero drops at calm and peak
	$(GATE) -run 'Alloc|Layout|Memory|Mistake|Balance' ./bench ./hotpath/... ./ilp/line ./venues/...
	DEEPTAPE_GATES=1 $(GATE) -p=1 -v -run '^Test(Gate|Rig)' ./bench ./bench/rig

peers: ## what one would take from the shelf, on the same messages, without a network: one table (needs cargo, python3.11, gcc)
	cd bench/peers && go run . $(if $(DEEPTAPE_CAPTURES),-captures '$(abspath $(DEEPTAPE_CAPTURES))')

fmt: ## gofmt everything
	gofmt -l -w .

lint: ## gofmt, vet with every build tag, staticcheck
	@test -z "$$(gofmt -l .)" || { echo "not formatted (make fmt):"; gofmt -l .; exit 1; }
	go vet -tags valgrind ./...
	go vet -tags planted_ack,planted_chain,planted_slow ./ilp/deliver ./venues/feed ./hotpath/book
	$(STATICCHECK) ./...
	cd bench/peers && go vet ./...

ci: ## what .ci/run does
	.ci/run

clean: ## what was built; never what was recorded
	rm -rf bin bench/peers/.build *.test *.prof callgrind.out*
