package cli

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// demoConfig is what the demo runs and prints.
//
//go:embed demo.yaml
var demoConfig []byte

// runDemo runs demo.yaml and the services behind it until a signal ends it.
func runDemo(out io.Writer, log *slog.Logger) error {
	dir, err := demoCertificate()
	if err != nil {
		return &exitError{exitFailed, err}
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv("SLUICE_DEMO", dir); err != nil {
		return &exitError{exitFailed, err}
	}
	f, err := parseFile("demo.yaml", demoConfig, nil)
	if err != nil {
		return &exitError{exitFailed, err}
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	for _, d := range demoServices {
		stop, err := d.serve()
		if err != nil {
			return &exitError{exitFailed, err}
		}
		defer stop()
	}
	s, err := start(f, log)
	if err != nil {
		return &exitError{exitFailed, err}
	}
	fmt.Fprintf(out, "%s\n%s", demoConfig, strings.ReplaceAll(demoTry, "$SLUICE_DEMO", dir))
	<-signals
	fmt.Fprintln(out, "\nfinishing what is open; once more to stop at once")
	drainUntil(s, signals)
	return nil
}

const demoTry = `
The edge runs as configured above. Try, in another terminal:

  curl -i http://127.0.0.1:8000/order                 list the orders; X-Gateway says which gateway it was,
                                                      X-Seen-Client which client the service was told of
  curl    http://127.0.0.1:8000/order/1               one of them
  curl    http://127.0.0.1:8000/cart -d '{"item": "lamp", "count": 2}'
  for i in 1 2 3 4 5 6 7 8; do curl -si http://127.0.0.1:8000/user | grep -i '^HTTP\|^ratelimit:'; done
                                                      five a second, and then 429
  curl    http://127.0.0.1:8000/all                   two services are asked, one answer
  curl -i http://127.0.0.1:8000/admin                 answered by the gateway: 403
  curl -i http://127.0.0.1:8000/elsewhere             no route: 404
  curl    --cacert $SLUICE_DEMO/server.pem https://localhost:8443/order
                                                      the same by TLS, which ends at the gateway
  SLUICE_DEMO=$SLUICE_DEMO bin/sluice explain placement -c cmd/cli/demo.yaml --cluster gateways --add 127.0.0.1:8103
                                                      who would go where with a third gateway
  curl    http://127.0.0.1:9900/metrics               what all of that looked like from inside
  wrk -c 64 -d 5 http://127.0.0.1:8000/order          under load, if you have wrk

Ctrl-C finishes what is open and ends.
`

// demoServices are the microservices behind the demo's gateways.
var demoServices = []*service{
	{name: "order", address: "127.0.0.1:9101", items: map[int]item{
		1: {"customer": 1, "item": "lamp", "state": "shipped"}, 2: {"customer": 2, "item": "desk", "state": "open"}}},
	{name: "cart", address: "127.0.0.1:9102", items: map[int]item{1: {"customer": 2, "item": "chair", "count": 4}}},
	{name: "user", address: "127.0.0.1:9103", items: map[int]item{1: {"name": "Ada"}, 2: {"name": "Grace"}}},
}

// item is one JSON object of a service.
type item map[string]any

// service is a small JSON API: GET /name lists, GET /name/ID gets, POST /name creates. Safe for concurrent use.
type service struct {
	name, address string
	mu            sync.Mutex
	items         map[int]item
}

// maxItems bounds what a service keeps.
const maxItems = 1000

func (v *service) serve() (stop func(), err error) {
	ln, err := net.Listen("tcp", v.address)
	if err != nil {
		return nil, fmt.Errorf("%s service: %w", v.name, err)
	}
	server := &http.Server{Handler: v, ReadHeaderTimeout: 5 * time.Second}
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(ln) })
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		done.Wait()
	}, nil
}

// ServeHTTP implements http.Handler.
func (v *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Seen-Client", r.Header.Get("X-Forwarded-For")) // whom the gateway took the request from
	id, one := strings.CutPrefix(r.URL.Path, "/"+v.name+"/")
	switch {
	case !one && r.URL.Path != "/"+v.name:
		answer(w, http.StatusNotFound, item{"error": "no such resource"})
	case r.Method == http.MethodGet && one:
		v.get(w, id)
	case r.Method == http.MethodGet:
		v.list(w)
	case r.Method == http.MethodPost && !one:
		v.create(w, r)
	default:
		w.Header().Set("Allow", "GET, POST")
		answer(w, http.StatusMethodNotAllowed, item{"error": "method not allowed"})
	}
}

func (v *service) list(w http.ResponseWriter) {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := []item{}
	for _, id := range slices.Sorted(maps.Keys(v.items)) {
		all = append(all, v.item(id))
	}
	answer(w, http.StatusOK, all)
}

func (v *service) get(w http.ResponseWriter, id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n, err := strconv.Atoi(id)
	if _, ok := v.items[n]; err != nil || !ok {
		answer(w, http.StatusNotFound, item{"error": "no " + v.name + " with this id"})
		return
	}
	answer(w, http.StatusOK, v.item(n))
}

func (v *service) create(w http.ResponseWriter, r *http.Request) {
	var it item
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&it); err != nil || it == nil {
		answer(w, http.StatusBadRequest, item{"error": "the body is not a JSON object"})
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	id := len(v.items) + 1
	if id > maxItems {
		answer(w, http.StatusInsufficientStorage, item{"error": "this demo keeps no more"})
		return
	}
	delete(it, "id")
	v.items[id] = it
	w.Header().Set("Location", fmt.Sprintf("/%s/%d", v.name, id))
	answer(w, http.StatusCreated, v.item(id))
}

// item is the object as it is shown: with its id.
func (v *service) item(id int) item {
	shown := item{"id": id}
	maps.Copy(shown, v.items[id])
	return shown
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
