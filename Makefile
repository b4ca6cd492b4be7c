# `make` lists the targets. Only Go and make are needed; what else a target uses it gets itself or says
# how to get (internal/tools/setup.sh).
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

# Tools are pinned in modules of their own, so that none of their dependencies is one of ours.
BUF     := go tool -modfile=internal/tools/buf.mod buf
LINT    := go tool -modfile=internal/tools/lint.mod golangci-lint
COMPOSE := go tool -modfile=internal/tools/compose.mod github.com/compose-spec/compose-go/v2/cmd

# go test, and a summary that names what was left out.
GOTEST := go run ./internal/tools/gotest

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 18

.PHONY: run
run: build ## Run the whole system in one process, with its data in ./data; ARGS="--grpc-listen 127.0.0.1:0" adds flags
	exec bin/audittrail all $(ARGS)

.PHONY: build
build: ## Build bin/audittrail
	go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/audittrail ./cmd/audittrail

.PHONY: test
test: ## Run all tests but the long ones
	@internal/tools/setup.sh redis
	$(GOTEST) -timeout 10m ./...

.PHONY: test-race
test-race: ## Run the tests of what is concurrent with the race detector (needs a C compiler)
	@internal/tools/setup.sh redis cc
	CGO_ENABLED=1 $(GOTEST) -race -timeout 10m ./internal/group/... ./emitters/... ./processors/...

.PHONY: test-mutations
test-mutations: ## Show that what goes wrong without a rule is noticed: tests with the rule switched off
	@internal/tools/setup.sh redis
	$(GOTEST) -tags mutations -timeout 10m ./internal/group/... ./processors/...

.PHONY: test-pg15
test-pg15: ## Run the tests of the store on PostgreSQL 15, the oldest supported
	@internal/tools/setup.sh redis postgresql15
	AUDITTRAIL_TEST_PG=15 $(GOTEST) -timeout 10m ./processors/sink/... ./views/...

.PHONY: faults-quick
faults-quick: ## Run the quick fault scenarios on the in-process broker (at most 8 minutes)
	@internal/tools/setup.sh redis
	go run ./bench/cmd/faults -quick -parallel 3 -again $(ARGS)

.PHONY: faults
faults: ## Run every fault scenario on Apache Kafka, and those of the in-process broker there (at most 60 minutes); the report is bin/faults.md
	@internal/tools/setup.sh redis java maven postgresql15
	go run ./bench/cmd/faults -broker kafka,kfake -parallel 2 -again -report bin/faults.md $(ARGS)

.PHONY: faults-mutations
faults-mutations: ## Switch off one rule of the engine after the other: each must turn its scenario red
	@internal/tools/setup.sh redis java maven
	go run ./bench/cmd/faults -mutations -parallel 3 $(ARGS)

# The tests against a real Apache Kafka have the build tag realkafka and RealKafka in their names
# (internal/tools/repo_test.go holds both together).
.PHONY: test-kafka
test-kafka: ## Run the tests against a real Apache Kafka (Java 17, Maven)
	@internal/tools/setup.sh redis java maven
	$(GOTEST) -tags realkafka -run RealKafka -p 1 -count 1 -timeout 40m \
		$$(git grep -l '^//go:build realkafka' -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's,^,./,')

.PHONY: lint
lint: ## Vet, lint and check formats and the import direction
	$(BUF) lint
	$(BUF) format --diff --exit-code --path proto/audittrail
	$(LINT) run

.PHONY: generate
generate: ## Lint the .proto files and regenerate what is made from them
	internal/tools/generate.sh

.PHONY: generate-check
generate-check: ## Fail when a generated file is not fresh
	internal/tools/generate.sh --check

.PHONY: breaking
breaking: ## Fail when the .proto files break clients of the previous commit
	@if git cat-file -e HEAD~1:buf.yaml 2>/dev/null; then $(BUF) breaking --against '.git#ref=HEAD~1'; \
	else echo 'breaking: the previous commit has no proto/, nothing to compare with'; fi

.PHONY: up
up: ## Build and start a small cluster in containers (docker compose)
	docker/secrets.sh
	VERSION=$(VERSION) docker compose -f docker/compose.yaml up --build --detach --wait

.PHONY: down
down: ## Stop the cluster; its data stays in volumes
	docker compose -f docker/compose.yaml down

.PHONY: compose-check
compose-check: ## Check the compose file without containers
	$(COMPOSE) docker/compose.yaml >/dev/null
	$(GOTEST) ./docker/...

.PHONY: clean
clean: ## Remove what was built; ./data stays
	rm -rf bin
	go clean -testcache
