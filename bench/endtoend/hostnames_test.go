package endtoend

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"deeptape/cmd/localdb/dbtest"
)

// relay passes connections on, and can cut them all.
type relay struct {
	l     net.Listener
	mu    sync.Mutex
	conns map[net.Conn]bool
}

func startRelay(t *testing.T, network, addr, to string) *relay {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Skipf("cannot listen on %s: %v", addr, err)
	}
	r := &relay{l: l, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { l.Close(); r.cut() })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			onward, err := net.Dial("tcp", to)
			if err != nil {
				from.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{from, onward}, {onward, from}} {
				r.mu.Lock()
				r.conns[pair[0]] = true
				r.mu.Unlock()
				go func() {
					io.Copy(pair[0], pair[1])
					pair[0].Close()
					pair[1].Close()
				}()
			}
		}
	}()
	return r
}

func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.Close()
	}
	clear(r.conns)
}

func (r *relay) port() string {
	_, port, _ := net.SplitHostPort(r.l.Addr().String())
	return port
}

// TestHostNames: a host may have an address of each family and be reached by one only, and
// its name may not be known for a while: the agent tells which name it is and tries on, and
// goes on by itself when it is known. The venue answers on IPv4 and QuestDB on IPv6, and
// each name has both addresses.
func TestHostNames(t *testing.T) {
	share(t, waits, time.Minute)
	if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
		t.Skipf("the agent cannot get a hosts file of its own here: %v: %s", err, out)
	}
	dir := t.TempDir()
	db := database{t, dbtest.Start(t)}
	v := startVenue(t, dir, "binance:HSTUSDT", "kraken:HST/USD", "--seed", "31", "--for", "10m")
	toVenue := startRelay(t, "tcp4", "127.0.0.1:0", strings.TrimPrefix(v.url, "http://"))
	toDB := startRelay(t, "tcp6", "[::1]:0", db.addr)

	conf, err := os.ReadFile(v.conf)
	if err != nil {
		t.Fatal(err)
	}
	byName := strings.ReplaceAll(string(conf), strings.TrimPrefix(v.url, "http://"), "venue.test:"+toVenue.port())
	named := filepath.Join(dir, "named.yaml")
	hosts, resolver := filepath.Join(dir, "hosts"), filepath.Join(dir, "resolv.conf")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil { // in place: it is mounted
			t.Fatal(err)
		}
	}
	const unknown, known = "127.0.0.1 localhost\n", "127.0.0.1 localhost venue.test db.test\n::1 venue.test db.test\n"
	write(named, byName)
	write(hosts, unknown)
	write(resolver, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n") // nobody answers there
	args := []string{"capture", "-c", named, "--journal", v.journal, "--questdb", "http::addr=db.test:" + toDB.port() + ";", "--listen", "127.0.0.1:0"}
	const mounted = `mount --bind "$0" /etc/hosts && mount --bind "$1" /etc/resolv.conf && shift && exec "$@"`
	a := &agent{process: startAs(t, nil, exec.Command("unshare", append([]string{"-m", "sh", "-c", mounted, hosts, resolver, binary}, args...)...), args...)}
	a.url = a.says(`url=(http://\S+)`, 2*time.Minute)
	a.says(`lookup venue\.test`, patience)
	a.says(`lookup db\.test`, patience)

	recording := func(what string) agentStatus {
		t.Helper()
		received := int64(-1)
		for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
			st := a.status()
			if received < 0 {
				received = st.Frames["received"]
			}
			if len(st.Troubles) == 0 && st.Frames["received"] > received+100 && st.LagInputs < 500 && st.Rows["book_delta"].Acked > 0 {
				return st
			}
			if time.Since(began) > 2*time.Minute {
				t.Fatalf("%s, and the agent does not record: %+v\n%s", what, st, tail(a.errout.String()))
			}
		}
	}
	write(hosts, known)
	before := recording("the names are known")

	write(hosts, unknown)
	time.Sleep(6 * time.Second) // a hosts file is remembered for five
	toVenue.cut()
	toDB.cut()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		troubles := strings.Join(a.status().Troubles, "; ")
		if strings.Contains(troubles, "db.test") && strings.Contains(troubles, "not connected") {
			break
		}
		if time.Since(began) > patience {
			t.Fatalf("the names are not known any more; troubles: %q", troubles)
		}
	}
	write(hosts, known)
	after := recording("the names are known again")
	if after.Rows["book_delta"].Acked <= before.Rows["book_delta"].Acked || after.LedgerDifference != 0 {
		t.Errorf("after it: %+v", after)
	}
	a.interrupt()
	v.verify(t, database{t, net.JoinHostPort("::1", toDB.port())}) // a literal in the configuration string
}
