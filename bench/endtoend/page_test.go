package endtoend

import (
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestIdlePage: 300 connections that say nothing hang at the page of an agent that may have
// 96 files open, and come again when they are closed. The journal goes on to make segments,
// no frame is lost, and who asks something has an answer.
func TestIdlePage(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	share(t, works, 15*time.Second)
	const symbols = "IDLUSDT,PAGUSDT"
	v := startVenue(t, t.TempDir(), "binance:"+symbols, "--seed", "29", "--start", marketStart, "--speed", "25", "--for", "90m")
	v.configure("    depth: 1000\n")
	v.configure("journal: {segment: 1MiB}\n")
	args := []string{"capture", "-c", v.conf, "--journal", v.journal, "--questdb", "off", "--listen", "127.0.0.1:0"}
	a := &agent{process: startAs(t, nil, exec.Command("sh", append([]string{"-c", `ulimit -n 96 && exec "$0" "$@"`, binary}, args...)...), args...)}
	a.url = a.says(`url=(http://\S+)`, patience)
	a.recordFor(0)

	var hanging sync.WaitGroup
	leave := make(chan struct{})
	for range 300 {
		hanging.Go(func() {
			for {
				c, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
				if err == nil {
					gone := make(chan struct{})
					go func() { io.Copy(io.Discard, c); close(gone) }()
					select {
					case <-gone:
					case <-leave:
					}
					c.Close()
					<-gone
				}
				select {
				case <-leave:
					return
				case <-time.After(time.Second):
				}
			}
		})
	}
	defer hanging.Wait()
	defer close(leave)
	time.Sleep(time.Second)
	began, before := time.Now(), len(v.segments())
	for len(v.segments()) < before+3 {
		if time.Sleep(100 * time.Millisecond); time.Since(began) > patience {
			t.Fatalf("%d segments after %s, %d before", len(v.segments()), patience, before)
		}
	}
	t.Logf("three segments after %s", time.Since(began).Round(time.Millisecond))
	if strings.Contains(a.errout.String(), "too many open files") {
		t.Errorf("the agent has run out of descriptors")
	}
	answered := false
	for began := time.Now(); !answered && time.Since(began) < promptly; {
		res, err := (&http.Client{Timeout: promptly}).Get(a.url + "/healthz")
		if err != nil {
			continue // its place was taken before it had asked
		}
		res.Body.Close()
		answered = true
	}
	if !answered {
		t.Errorf("no answer of /healthz")
	}
	if st := a.status(); st.Frames["lost"] != 0 {
		t.Errorf("frames are lost: %+v", st)
	}
}
