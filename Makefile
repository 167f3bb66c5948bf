# Sluice. `make run` shows it, `make test` proves it; both do all the set-up on a machine that has Go.

GO ?= go
REVISION = $(shell git describe --always --dirty=+ --abbrev=12 2>/dev/null)
# What is needed beside Go, as command:package of Debian. The race detector is linked by gcc; curl and those after dnsmasq
# are the servers and clients between which the gateway is tried.
TEST_NEEDS = gcc:gcc curl:curl ip:iproute2 dnsmasq:dnsmasq-base nginx:nginx apache2:apache2-bin lighttpd:lighttpd \
	ab:apache2-utils h2load:nghttp2-client node:nodejs node:node-ws redis-server:redis-server
# The peers of the benchmark, and the load generators that its own is compared with.
BENCH_NEEDS = haproxy:haproxy nginx:nginx nginx:libnginx-mod-stream wrk:wrk h2load:nghttp2-client

.DEFAULT_GOAL := help
.PHONY: help build run test test-setup bench bench-deps bench-smoke bench-regress bench-selftest fuzz clean

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

build: ## build bin/sluice, one static binary
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X sluice/cmd/cli.gitRevision=$(REVISION)" -o bin/sluice ./cmd/sluice

run: build ## build, and run the demo
	@exec bin/sluice demo

test: test-setup build ## everything that must hold: format, vet, lint, tests under the race detector
	@test -z "$$(gofmt -l .)" || { echo "not formatted (gofmt -w):"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	CGO_ENABLED=1 $(GO) test -race -timeout 10m ./...
	bin/sluice bench run --duration 500ms

# $(call install,NEEDS): the packages that are missing are installed as root or by sudo; else it is said which they are.
# nginx's stream module and Node's ws are no commands, and are looked for where Debian has them. Nothing is to run as a service
# afterwards: under systemd the units are masked while they are installed (RUNLEVEL=1 says the same to invoke-rc.d elsewhere),
# and disabled.
define install
	@PATH="$$PATH:/usr/sbin"; missing=; for need in $(1); do \
		case $$need in \
		*:libnginx-mod-stream) test -e /usr/lib/nginx/modules/ngx_stream_module.so;; \
		*:node-ws) test -e /usr/share/nodejs/ws/package.json;; \
		*) command -v $${need%%:*} >/dev/null 2>&1;; \
		esac || missing="$$missing $${need##*:}"; \
	done; \
	case " $$missing " in *" gcc "*) missing="$$missing libc6-dev";; esac; \
	test -z "$$missing" && exit 0; \
	if ! command -v apt-get >/dev/null 2>&1; then \
		echo "Please install, by your system's means:$$missing"; exit 1; \
	elif [ "$$(id -u)" = 0 ]; then as=; \
	elif sudo -n true 2>/dev/null; then as=sudo; \
	else echo "Please run: sudo apt-get install$$missing"; exit 1; fi; \
	echo "installing:$$missing"; \
	units=; if [ -d /run/systemd/system ]; then for unit in haproxy lighttpd nginx redis-server; do \
		case " $$missing " in *" $$unit "*) units="$$units $$unit";; esac; \
	done; fi; \
	$$as apt-get update -q >/dev/null || exit 1; \
	test -z "$$units" || $$as systemctl --quiet --runtime mask $$units || exit 1; \
	$$as env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -q --no-install-recommends $$missing >/dev/null; status=$$?; \
	test -z "$$units" || { $$as systemctl --quiet --runtime unmask $$units; $$as systemctl --quiet disable $$units; }; \
	exit $$status
endef

test-setup:
	$(call install,$(TEST_NEEDS))

bench-deps: ## install the benchmark's peers: haproxy, nginx, wrk, h2load
	$(call install,$(BENCH_NEEDS))

bench: build bench-deps ## measure beside HAProxy, nginx and the floor, about 3 minutes; report in bin/bench.html
	bin/sluice bench peers --rounds 6 --duration 1s -o bin/bench.json --history bench/history.jsonl
	bin/sluice bench report bin/bench.json --history bench/history.jsonl -o bin/bench.html

bench-smoke: build ## every scenario once, about 20 s: fails if one measured nothing or met an error
	bin/sluice bench run --duration 500ms

bench-regress: build ## measure the working tree against BASE=revision
	bin/sluice bench regress --base $(or $(BASE),HEAD)

bench-selftest: build bench-deps ## try the benchmark itself: injected faults, stalls, other generators; about 10 minutes
	SLUICE_SELFTEST=1 $(GO) test -run Selftest -v -count 1 -timeout 60m ./bench

# Fuzzing has no end of its own; FUZZTIME is for each target.
FUZZTIME ?= 30s
fuzz: ## try the parsers with what nobody thought of
	@$(GO) list ./... | while read -r pkg; do \
		$(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' | while read -r f; do \
			echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$pkg || exit 1; \
		done || exit 1; \
	done

clean: ## remove what was built
	rm -rf bin
