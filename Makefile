# Everything a new clone needs. `make help` lists the targets.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NOW := $(shell date +%Y%m%d-%H%M%S)
RUN := saved/ds2/demo-$(NOW)
TTS_RUN := saved/fastspeech2/demo-$(NOW)
# Measures how well the speech is understood, and begins `make real`; the one that `make demo` left last.
RECOGNIZER ?= $(wildcard saved/ds2/demo/model_best.pth)
# Where `make real` looks for LibriSpeech; without it, it does nothing.
DATA ?= ../shared/data
CER = --set 'metrics.cer={"type": "SynthesisCER", "args": {"recognizer": "$(RECOGNIZER)"}}'

.DEFAULT_GOAL := help
.PHONY: help demo demo-tts real test slow lint types smoke notebooks mutants grading-attacks faults guards faults-of-training false-alarms bench

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

# Installed again only when requirements.txt changes. kenlm has no wheels and needs a C++ compiler, and a Python before 3.13:
# without it, what reads KenLM's files is missing, and its tests are skipped. So it is for flashlight-text on 3.13.
$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' \
	  || { echo "Python 3.10 to 3.13 is needed: make PYTHON=python3.11 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet kenlm==0.3.0 || echo "kenlm was not built; continuing without it"
	@touch $(READY)

demo: $(READY) ## train DeepSpeech2 on the embedded corpus (minutes on a CPU) and show what it recognizes
	$(BIN)/python train.py -c configs/ds2.json --run-dir $(RUN)
	$(BIN)/python test.py -r $(RUN)/model_best.pth -o $(RUN)/output.json
	@ln -sfn $(notdir $(RUN)) $(dir $(RUN))demo

demo-tts: $(READY) ## train FastSpeech2 on the embedded corpus (minutes on a CPU), measure it and let it speak
	$(BIN)/python train.py -c configs/fastspeech2.json --run-dir $(TTS_RUN)
	$(BIN)/python test.py -r $(TTS_RUN)/model_best.pth -o $(TTS_RUN)/output.json $(if $(RECOGNIZER),$(CER))
	$(BIN)/python -m hw_tts.synthesize -r $(TTS_RUN)/model_best.pth --text "We will see ten keys next week." -o $(TTS_RUN)/speech
	@ln -sfn $(notdir $(TTS_RUN)) $(dir $(TTS_RUN))demo

real: $(READY) ## train DeepSpeech2 and FastSpeech2 on real speech of LibriSpeech below DATA (45 minutes, two cores), measure both
	$(BIN)/python -m demo.real --data $(DATA) $(if $(RECOGNIZER),--recognizer $(RECOGNIZER))

test: $(READY) ## run the tests (minutes, no GPU, no internet)
	$(BIN)/python -m pytest

slow: $(READY) ## run the tests that take longer too
	$(BIN)/python -m pytest -m "not gpu and not network"

lint: $(READY) ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## check types, strictly
	$(BIN)/mypy hw_base hw_asr hw_tts train.py test.py

smoke: $(READY) ## train every tiny config for a few steps
	$(BIN)/python -m pytest tests/test_configs.py

notebooks: $(READY) ## run the notebooks of demo/ and store them with what they show
	$(BIN)/python -m demo.execute

mutants: $(READY) ## change one thing at a time in the loop, run folders and checkpoints, and count what no test notices (hours)
	$(BIN)/pip install -q mutmut==3.8.1
	$(BIN)/mutmut run
	$(BIN)/mutmut results

faults: $(READY) ## inject every fault of docs/reliability.md for real and print the table (25 minutes)
	$(BIN)/python -m tests.faults $(ROWS)

guards: $(READY) ## take away one guard against faults at a time and see its test fail (minutes)
	$(BIN)/python -m tests.faults.mutations

faults-of-training: $(READY) ## plant faults in small trainings and print what finds them
	$(BIN)/python -m tests.faults_of_training $(if $(RECORD),--record $(RECORD))

false-alarms: $(READY) ## train all configs for a hundred steps, two demos to their end, and print what is said: nothing (an hour or two)
	$(BIN)/python -m tests.faults_of_training --healthy $(if $(RECORD),--record $(RECORD))

bench: $(READY) ## measure us beside the peers on one CPU thread (12 minutes and an installation) and write benchmarks/RESULTS.md
	$(BIN)/python -m pip install --quiet -r requirements-bench.txt
	$(BIN)/python -m pip install --quiet --no-deps pyctcdecode==0.5.0
	$(BIN)/python -m benchmarks

grading-attacks: $(READY) ## try every attack on the grader that docs/grading.md lists, and print the table
	$(BIN)/python -m tests.hw_base.grading.attacks
