# `make` lists the targets. Only Go and make are needed; see internal/tools/setup.sh for the rest.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Tools are pinned in modules of their own, so that none of their dependencies is one of ours.
BUF := go tool -modfile=internal/tools/buf.mod buf

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 18

.PHONY: generate
generate: ## Lint the .proto files and regenerate what is made from them
	internal/tools/generate.sh

.PHONY: generate-check
generate-check: ## Fail when a generated file is not fresh
	internal/tools/generate.sh --check

.PHONY: breaking
breaking: ## Fail when the .proto files break clients of the previous commit
	@if git cat-file -e HEAD~1:proto 2>/dev/null; then $(BUF) breaking --against '.git#ref=HEAD~1'; \
	else echo 'breaking: the previous commit has no proto/, nothing to compare with'; fi
