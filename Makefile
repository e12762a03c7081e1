.PHONY: setup demo down test check bench
setup: ; @scripts/setup
demo: ; @scripts/demo
down: ; @scripts/down
check: ; @scripts/check
test: ; @scripts/test
bench: ; @scripts/bench
