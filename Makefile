.PHONY: setup demo down test check bench lab lab-down chaos compatibility conformance
setup: ; @scripts/setup
demo: ; @scripts/demo
down: ; @scripts/down
check: ; @scripts/check
test: ; @scripts/test
bench: ; @scripts/bench
lab: ; @scripts/lab up
lab-down: ; @scripts/lab down
chaos: ; @scripts/chaos
compatibility: ; @scripts/setup && scripts/compatibility --clients
conformance: ; @scripts/conformance
