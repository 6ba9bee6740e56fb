# Two commands do everything: `make demo` and `make test`. Both first install what is missing.

CARGO ?= cargo

# Where cargo puts what it builds.
BUILT := $(or $(CARGO_TARGET_DIR),target)

# What all that is not released is built with: one choice of features, so that each crate is compiled once.
WHOLE := --locked --workspace --all-features

.PHONY: demo test test-net test-look test-machine prove soak build bench check dependencies fuzz fuzz-minimise help

help:
	@echo "make demo          build, then run the main job for real on this machine"
	@echo "make test          all ordinary tests"
	@echo "make test-net      of those, what crosses a network: namespaces, sshd, floods, carriers"
	@echo "make test-look     of those, what people see: recorded sessions, the demonstration, a terminal, the documents"
	@echo "make test-machine  a whole machine with systemd and a TPM as a target; the first time its disk is made"
	@echo "make prove         the models of the protocol in proofs, each query against what is expected of it"
	@echo "make soak          the long runs: floods, a thousand relationships, every fault at every durable call"
	@echo "make build         akm and akmd, in $(BUILT)/release"
	@echo "make bench         what it costs, as ratios; SECONDS=300 long, and making ready comes on top"
	@echo "make check         format, lints, documentation, licences, who depends on whom"
	@echo "make fuzz TARGET=session MINUTES=60     one fuzz target under libFuzzer (testing/fuzz/README.md)"
	@echo "make dependencies  write the lists of what akm-core and akm-host depend on"

demo: build
	$(BUILT)/release/akm demo

build:
	scripts/setup build
	$(CARGO) build --release --locked --bins

test:
	scripts/setup test
	scripts/run-tests

# Parts of `make test`, for whoever works on them.
test-net:
	scripts/setup test
	scripts/run-tests --only 'akm/(partitions|over_ssh|flood|many|diagnosis)|akm-target/.*|akm-transport/.*'

test-look:
	scripts/setup test
	scripts/run-tests --only 'akm/(recorded|demo|main_job|documents)|akm-node/recorded'

# Its processor is one of this machine where there is KVM; else it is software, and a start takes most of a minute.
test-machine:
	scripts/setup machine
	scripts/test-machine-image
	$(CARGO) build $(WHOLE) --lib --bins --test machine
	$(CARGO) test $(WHOLE) --test machine

prove:
	scripts/setup prove
	scripts/prove

# What a flood costs, and how soon a node with a thousand relationships answers, is a matter of speed: as released.
soak:
	scripts/setup test
	$(CARGO) build --locked --release --workspace --bins
	AKM_FLOOD_FRAMES=5000000 $(CARGO) test --locked --release --package akm --test flood -- --nocapture
	$(CARGO) test --locked --release --package akm --test many -- --nocapture
	$(CARGO) build $(WHOLE) --lib --bins --tests
	AKM_SWEEP=full $(CARGO) test $(WHOLE) --test interrupted --test interrupted_asr \
		--test interrupted_attach --test interrupted_elements --test interrupted_changes

# A table on standard output, and the same as JSON. One part alone: make bench PARTS=seal
SECONDS ?= 300
PARTS ?=
JSON ?= $(BUILT)/bench.json

bench:
	scripts/setup bench
	$(CARGO) build --release --locked --workspace --bins
	mkdir -p $(dir $(JSON))
	$(CARGO) run --release --locked --package akm-bench -- $(PARTS) --seconds $(SECONDS) --json $(JSON)

check:
	scripts/setup check
	$(CARGO) fmt --all --check
	scripts/check-dependencies
	scripts/core-dependencies --check
	$(CARGO) clippy $(WHOLE) --all-targets -- -D warnings
	$(CARGO) clippy $(WHOLE) --test machine -- -D warnings
	$(CARGO) fmt --manifest-path examples/bare/Cargo.toml --check
	$(CARGO) clippy --locked --manifest-path examples/bare/Cargo.toml --target-dir $(BUILT)/bare -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(WHOLE) --no-deps

dependencies:
	scripts/core-dependencies

# Random worlds with ever other seeds, for SOAK_MINUTES. A failing one is shrunk and written down.
SOAK_MINUTES ?= 60

.PHONY: soak soak-sim
soak: soak-sim

soak-sim:
	$(CARGO) run --locked --release --package akm-sim -- run --minutes $(SOAK_MINUTES) --failure $(BUILT)/akm-sim-failure.trace

# What libFuzzer finds goes on in FUZZ_WORK; the kept corpus is only read.
TARGET ?= session
MINUTES ?= 60
FUZZ_WORK ?= $(BUILT)/fuzz/$(TARGET)
FUZZ_LENGTH ?= 4096

fuzz:
	scripts/setup fuzz
	mkdir -p $(FUZZ_WORK)/found
	AKM_FUZZ_TARGET=$(TARGET) "$$(testing/fuzz/build)" -max_total_time=$$(($(MINUTES) * 60)) -max_len=$(FUZZ_LENGTH) \
		-rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix=$(FUZZ_WORK)/failed- \
		$(FUZZ_WORK)/found testing/fuzz/corpus/$(TARGET)

fuzz-minimise:
	scripts/setup fuzz
	testing/fuzz/minimise $(TARGET) $(FUZZ_WORK)/found
