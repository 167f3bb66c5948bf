# Sluice. `make run` shows it, `make test` proves it; both do all the set-up on a machine that has Go.

GO ?= go
# What the tests need beside Go, as command:package of Debian. The race detector is linked by gcc.
TEST_NEEDS = gcc:gcc curl:curl

.DEFAULT_GOAL := help
.PHONY: help build run test test-setup fuzz clean

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

build: ## build bin/sluice, one static binary
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/sluice ./cmd/sluice

run: build ## build, and run the demo
	@exec bin/sluice demo

test: test-setup build ## everything that must hold: format, vet, lint, tests under the race detector
	@test -z "$$(gofmt -l .)" || { echo "not formatted (gofmt -w):"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	CGO_ENABLED=1 $(GO) test -race -timeout 10m ./...

# The packages that are missing are installed as root or by sudo; else it is said which they are.
test-setup:
	@missing=; for need in $(TEST_NEEDS); do \
		command -v $${need%%:*} >/dev/null 2>&1 || missing="$$missing $${need##*:}"; \
	done; \
	case " $$missing " in *" gcc "*) missing="$$missing libc6-dev";; esac; \
	test -z "$$missing" && exit 0; \
	if ! command -v apt-get >/dev/null 2>&1; then \
		echo "Please install, by your system's means:$$missing"; exit 1; \
	elif [ "$$(id -u)" = 0 ]; then as=; \
	elif sudo -n true 2>/dev/null; then as=sudo; \
	else echo "Please run: sudo apt-get install$$missing"; exit 1; fi; \
	echo "installing:$$missing"; \
	$$as apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive $$as apt-get install -y -q --no-install-recommends $$missing >/dev/null

# Fuzzing has no end of its own; FUZZTIME is for each target.
FUZZTIME ?= 30s
fuzz: ## try the parsers with what nobody thought of
	@$(GO) list ./... | while read -r pkg; do \
		$(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' | while read -r f; do \
			echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done || exit 1; \
	done

clean: ## remove what was built
	rm -rf bin
