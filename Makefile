# Shortcuts. None of them is needed: each is one command.

.PHONY: build test long browser ci demo bench chaos image

build: ## Both commands into bin/.
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/worker ./cmd/enqueue

test: ## The tests; installs redis-server if there is none.
	.ci/test

long: ## The tests, and those that take minutes: each right of Redis, each alert, the keys of a thousand workers.
	USHER_PROMETHEUS=$$(.ci/prometheus)/prometheus .ci/test -tags long

browser: ## The pages in a real Chromium, with axe-core; installs both.
	.ci/browser

ci: ## Format, vet, static checks and the tests with the race detector.
	.ci/run

demo: ## A worker with a sandbox Clerk, and a campaign.
	sh examples/demo.sh

bench: ## Usher beside a plain asynq worker, and BullMQ where node is installed; takes fourteen minutes.
	go run ./cmd/bench

chaos: ## Kills, restarts, lost answers and garbage, from a printed seed; takes a long while.
	go run ./cmd/chaos

image: ## One image with both commands.
	docker build -t usher .
