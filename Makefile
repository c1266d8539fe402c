# What CI and the README call. `make demo` and `make test` need nothing but Python 3.11-3.13 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SCALE := .venv-scale
REPOSITORY ?= .demo/repository
SOAK ?= reports/soak
SHAPES ?= build/shapes
PRICES ?= reports/shapes.json
JOBS ?= 2
PUBLISHED := $(REPOSITORY)/.published

.PHONY: install demo test compiled test-compiled chaos endurance fuzz hostile changing soak lint proto bench serve docs pages wheels first-answer release-repository \
	compose-test scale-test scale-prices \
	lock figures clean

install: $(STAMP)

# The versions are those of deploy/lock/dev.lock, on every machine.
$(STAMP): pyproject.toml $(wildcard models/pyproject.toml released/pyproject.toml deploy/lock/dev.lock)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint deploy/lock/dev.lock --editable models --editable released --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python deploy/demo.py

serve: $(STAMP) $(PUBLISHED)
	$(BIN)/resnet-server serve --repository $(REPOSITORY)

# The stamp is written last, so that an interrupted run goes on with what is missing; a folder of somebody's own gets nothing added.
$(PUBLISHED): $(wildcard models/resnet_models/pretrained/*.safetensors) | $(STAMP)
	@if test ! -d $(REPOSITORY) || test -e $(REPOSITORY)/.begun; then \
		mkdir -p $(REPOSITORY) && touch $(REPOSITORY)/.begun && \
		RESNET_PRECISIONS=fp32 $(BIN)/python deploy/image/publish_bundled.py $(REPOSITORY) && touch $@; \
	fi

bench: $(STAMP) $(PUBLISHED)
	$(BIN)/resnet-bench depths --repository $(REPOSITORY) --out reports

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# The hot path as C extensions, in a folder for PYTHONPATH; needs a C compiler and takes a minute. The sources stay as they are.
compiled: $(STAMP)
	$(BIN)/python deploy/compile_server.py build/compiled

# The server's tests on it, and those of front ends, to which compiled objects are handed.
test-compiled: compiled
	PYTHONPATH=build/compiled $(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests/unit/server tests/contract tests/e2e/test_front_ends.py

# 100,000 damaged messages, images and manifests to each transport; RESNET_FUZZ_SEED chooses others.
fuzz: $(STAMP)
	RESNET_FUZZ_INPUTS=100000 $(BIN)/python -m pytest tests/fuzz -s

# Kills, stops and cuts for two minutes each, 10,000 connections that vanish; then plans made beside busy loops. RESNET_CHAOS_SEED chooses others.
chaos: $(STAMP) $(PUBLISHED)
	RESNET_CHAOS_SECONDS=120 RESNET_CHAOS_PAUSE=2 RESNET_CHAOS_DISCONNECTS=10000 $(BIN)/python -m pytest tests/chaos -s
	PYTHONPATH=tests/support $(BIN)/python tests/chaos/plan_in_calm.py --repository $(REPOSITORY)

# Known answers for half an hour while processes are killed and stopped, versions come and go, and calls are wrong, late or cancelled.
endurance: $(STAMP) $(PUBLISHED)
	PYTHONPATH=tests/support $(BIN)/python tests/chaos/endurance.py --repository $(REPOSITORY) --out reports/endurance.json

# Mixed traffic for half an hour, with cancels, late calls and wrong ones; the readings are in $(SOAK)/results.json after every part.
soak: $(STAMP) $(PUBLISHED)
	$(BIN)/resnet-bench load --repository $(REPOSITORY) --model resnet20 --precision fp32 --soak 30m --concurrency 16 --out $(SOAK)

# Latencies of ordinary callers beside each attack on memory, decoders and parsers.
hostile: $(STAMP) $(PUBLISHED)
	PYTHONPATH=tests/support $(BIN)/python tests/fuzz/hostile_neighbours.py --repository $(REPOSITORY)

# 100 loads and unloads while 64 callers run: none of their calls may fail.
changing: $(STAMP) $(PUBLISHED)
	PYTHONPATH=tests/support $(BIN)/python tests/e2e/changing_models.py --repository $(REPOSITORY)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	deploy/check-proto-drift.sh

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir build/site

# Tables and charts of README and docs, from the files that were measured.
pages: $(STAMP)
	$(BIN)/python -m deploy.pages

# The three distributions: the code, the certified ONNX files, the checkpoints with the sample images.
wheels: $(STAMP)
	for folder in . released models; do (cd $$folder && $(CURDIR)/$(BIN)/python -m hatchling build -t wheel -d $(CURDIR)/dist) || exit 1; done
	ls -l dist

# What a newcomer waits for and downloads, in an empty environment, without a cache; README has the numbers.
first-answer: wheels
	$(BIN)/python deploy/first_answer.py dist

# What `resnet-server demo` and the images serve; DATA is a folder with CIFAR-10, as `resnet-train fit --data` takes it.
release-repository: $(STAMP)
	$(BIN)/python deploy/release_repository.py $(DATA)

proto: $(STAMP)
	proto/generate.sh

# Needs Docker with compose v2; builds, starts, checks and removes a stack of its own.
compose-test: $(STAMP)
	$(BIN)/python -m deploy.check

# Kubernetes, Helm, KServe, Envoy, Ray and a bucket without a cluster, with tools in an environment of their own.
scale-test: $(STAMP) $(SCALE)/.installed
	EXPORT_PYTHON=$(BIN)/python $(SCALE)/bin/python -m pytest tests/scale

# What Envoy, Ray and Serve's proxy cost, on a machine that does nothing else; adds two rounds to PRICES.
scale-prices: $(STAMP) $(SCALE)/.installed
	$(BIN)/resnet-export publish resnet18 --random-weights --precision fp32 --no-profile --repository $(SHAPES)
	cp -r released/resnet_networks/repository/resnet20 $(SHAPES)
	PYTHONPATH=tests/support $(SCALE)/bin/python tests/scale/measure_shapes.py --repository $(SHAPES) --out $(PRICES)
	SCALE_REPOSITORY=$(CURDIR)/released/resnet_networks/repository SCALE_RESULTS=$(CURDIR)/$(PRICES) \
		$(SCALE)/bin/python -m pytest tests/scale/test_ray.py -k outlive

$(SCALE)/.installed: pyproject.toml tests/scale/requirements.txt
	test -x $(SCALE)/bin/python || $(PYTHON) -m venv $(SCALE)
	$(SCALE)/bin/python -m pip install --quiet --upgrade pip
	$(SCALE)/bin/python -m pip install --quiet --editable released --editable '.[ray,remote]' -r tests/scale/requirements.txt
	$(SCALE)/bin/python -m pip install --quiet --no-deps kserve==0.21.0
	touch $@

# Pins what the images install; uv is only needed for this.
lock: $(STAMP)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m deploy.lock

# The tree in numbers: files, lines, lengths of functions, import cycles.
figures: $(STAMP)
	$(BIN)/python deploy/figures.py

clean:
	rm -rf $(VENV) $(SCALE) .demo build dist
