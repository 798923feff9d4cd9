# MiniCrit: make help lists what can be done. Each stage below is one command, one file that says it
# is done, and the list of what that file was made from; so only what is stale is redone.

#? RECIPE   recipe: a name (minicrit recipes) or a YAML file; default cpu
#? RUN      name of the run: data/RUN, checkpoints/RUN, reports/RUN; default: the recipe's
#? BASE     base model in place of the recipe's: embedded, tiny, a folder or a Hugging Face id
#? ARGS     more settings, e.g. ARGS="--sft.epochs 2"; what is to last belongs in a recipe. Folders of
#?          the run, and what a variable here sets, win over the recipe; ARGS win over both
#? SEED     of data, first weights and order; default: the recipe's. SEEDS of ladder, e.g. "0 1 2":
#?          the whole ladder by each, as runs RUN-seed0 and so on, then one table of all
#? DATA     folder of public sets to mix in. A run remembers it, as BASE, SEED and, of a RUN that is named,
#?          RECIPE: later goals need not say them; DATA= takes it back
#? FROM     public set as published, to import; KIND: which it is (default: told by its keys);
#?          OUT: folder of the result, which DATA takes; default data/public
#? BITS     of the quantized critic: 16 (bfloat16), 8 or 4; default 8
#? FORMAT   of export: hf, gguf, ollama or vllm; default hf
#? MODEL    critic to calibrate, quantize, export, try, look through, specialize or ask; default: that
#?          of the run; for critique, serve and ab the released one if the run has none. dpo, rsf,
#?          kto and constitution start from the run's own: a recipe with sft.start goes on from others
#? TARGET   critic that writes for speculative; default: that of the run; DRAFT: a smaller one, or
#?          base, of the same tokenizer that drafts for it; default: none
#? MODEL_1  critic to benchmark; default: that of the run; of a llama.cpp or vLLM server:
#?          openai:http://HOST:PORT/v1#NAME, with @FOLDER of its export; likewise MODEL_2
#? MODEL_2  critic to compare it with; default: the recipe's, or BASE
#? JUDGE    who compares the critiques of MODEL_1 and MODEL_2 after benchmark: anthropic, ollama,
#?          openai or local (with MODEL_NAME, URL, BUDGET_USD); JUDGE_SAMPLE: items; default 200
#? CRITICS  folders of the adapters that average takes the mean of
#? ALPHA    highest false-positive rate that calibrate certifies, e.g. 0.02; default 0.08
#? COUNT    hard examples to make; BACKEND: composer, anthropic, ollama, openai or local; MODEL_NAME,
#?          URL, BUDGET_USD, FOCUS, BATCH=1: see minicrit hard --help
#? JUDGE    who gives an opinion on doubtful labels for errors: anthropic, ollama, openai or local
#?          (with MODEL_NAME, URL, BUDGET_USD); default: nobody
#? CANDIDATES  critiques of a rationale for pairs; SCORER: oracle, anthropic, ollama or openai
#? N        critiques a rationale for rsf; KEEP: share kept; KEEP_SCOPE: rationale or global
#? ROUNDS   of dpo, rsf or constitution: each learns from what the critic of the one before wrote
#? TRADES   CSV of trades for sharpe; PRICES: closes that mark them to market; GATE: drop or halve
#? LOG      CSV of operators' decisions for agreement
#? STORE    feedback database, of feedback-pairs and ab; default feedback/store.db
#? NAME     of the experiment that ab begins, between MODEL (or that of the run) and MODEL_2
#? REVISER  who revises for constitution: self, anthropic, ollama, openai or local (with MODEL_NAME,
#?          URL, BUDGET_USD)
#? THUMBS   critiques that somebody liked or not, for kto; default: the pairs of the run
#? ARCHIVE  folder that archive copies the run to; VISTA: USER@HOST:FOLDER that vista-fetch takes it
#?          from; COMPARE: two runs, RUN,RUN, whose settings and metrics are compared
#? LAUNCH   what starts the stages, for batch files: bash slurm/launch.sh
#? HOST     address to serve on; PORT: its port; KEYS: file of API keys, needed beyond the loopback
#? TEXT     rationale to judge; DOMAIN: its domain
#? PYTHON   interpreter for the virtual environment, 3.11 or later; default python3
# In front of make these set nothing, and whoever writes them there means something.
UNHEARD := $(foreach v,BASE ARGS SEED SEEDS DATA MODEL MODEL_1 MODEL_2 TARGET JUDGE BACKEND COUNT ALPHA ROUNDS \
    CRITICS TRADES THUMBS STORE FROM MODEL_NAME BUDGET_USD BATCH FOCUS,$(if $(filter environment,$(origin $v)),$v))
$(foreach v,$(UNHEARD),$(warning $v in front of make, or exported, sets nothing; write it behind the goal))
RECIPE ?= cpu
RUN ?= $(basename $(notdir $(RECIPE)))
BITS ?= 8
FORMAT := hf
PYTHON ?= python3
LAUNCH ?=
DOMAIN ?= general
BASE :=
ARGS :=
SEED :=
SEEDS :=
DATA :=
MODEL :=
TARGET :=
DRAFT :=
MODEL_1 :=
TEXT :=
JUDGE :=
JUDGE_SAMPLE :=
CRITICS :=
ALPHA :=
COUNT := 1000
BACKEND := composer
MODEL_NAME :=
URL :=
BUDGET_USD :=
FOCUS :=
CANDIDATES :=
N :=
KEEP :=
KEEP_SCOPE :=
ROUNDS :=
REVISER :=
THUMBS :=
SCORER :=
TRADES :=
PRICES :=
GATE :=
LOG :=
HOST :=
PORT :=
KEYS :=
STORE :=
NAME :=
ARCHIVE :=
VISTA :=
COMPARE :=
FROM :=
KIND := auto
OUT := data/public
BATCH :=

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:

# Threads that wait sleep at once: two trainings beside one another else stand still. For one alone
# GOMP_SPINCOUNT=20000 in front of make is faster (docs/performance.md).
export OMP_WAIT_POLICY ?= passive
export TOKENIZERS_PARALLELISM := false
# As it was typed: a $ in a rationale is a dollar, and nothing in it is run, here or where make hands
# its variables on.
override TEXT := $(value TEXT)
export MINICRIT_TEXT := $(TEXT)

# A variable that is none of those above would set nothing, and say nothing of it.
KNOWN := $(shell sed -nE 's/^([A-Z_0-9]+) *[?:+]?=.*/\1/p' $(firstword $(MAKEFILE_LIST)))
UNKNOWN := $(strip $(foreach v,$(filter-out $(KNOWN),$(.VARIABLES)),$(if $(filter command \
    line,$(origin $v)),$v)))
ifneq ($(UNKNOWN),)
  $(error $(firstword $(UNKNOWN)): expected a variable that make help lists, got none of that name)
endif

# Make reads a $ in them and the shell what else parts or ends its words; only ARGS may hold such.
given = $(filter command environment,$(firstword $(origin $(1))))
IN_LINES := $(foreach v,$(filter-out ARGS TEXT,$(KNOWN)),$(if $(filter command,$(firstword \
    $(origin $v))),$v)) $(foreach v,RECIPE RUN DOMAIN,$(if $(call given,$v),$v))
IN_SHELL := $(firstword $(foreach v,$(IN_LINES),$(if $(strip $(foreach c,$$ & ; | < > ( ) ` ' " \ \
    ,$(findstring $c,$(value $v)))),$v)))
ifneq ($(IN_SHELL),)
  $(error $(IN_SHELL): expected none of $$ & ; | < > ( ) ` ' " \, which the shell would read, got \
      $(value $(IN_SHELL)); name it otherwise, a path by a link)
endif
SPLIT := $(firstword $(foreach v,DOMAIN NAME HOST KIND COMPARE MODEL_NAME URL,$(if $(filter-out 0 \
    1,$(words $($v))),$v)))
ifneq ($(SPLIT),)
  $(error $(SPLIT): expected one word, got "$($(SPLIT))")
endif

# A run's name becomes folders that clean removes: no pattern, nor folders of no run. Make parts its
# rules at a colon, the command its lists at a comma.
NO_RUN := base released public operators adversarial sharpe-demo hard-% .% -%
comma := ,
ifneq ($(words $(RUN))$(strip $(foreach c,/ * ? [ ] { } : % $(comma),$(findstring $c,$(RUN)))$(filter \
    $(NO_RUN),$(RUN))),1)
  $(error RUN: expected one plain name and none of other folders ($(NO_RUN)), got "$(RUN)")
endif

# What the data and the base of a run were made with holds for its later goals, too: without DATA they
# would compose it anew and train on that. Empty on the command line, it is taken back.
remembered = $(if $(filter command,$(firstword $(origin $(1)))),$($(1)),$(shell cat .make/$(RUN)/told/$(1) \
    2>/dev/null))
ifeq ($(call given,RECIPE),)
  RECIPE := $(if $(call given,RUN),$(or $(call remembered,RECIPE),$(RECIPE)),$(RECIPE))
endif
ifeq ($(SEEDS),)
  SEED := $(call remembered,SEED)
endif
DATA := $(call remembered,DATA)
BASE := $(call remembered,BASE)
MODEL_2 := $(BASE)
TOLD := RECIPE DATA BASE SEED

RECIPE_FILE := $(if $(filter %.yaml %.yml,$(RECIPE)),$(RECIPE),minicrit/recipes/$(RECIPE).yaml)
# What nobody can use is refused before hours of what comes first.
ifeq ($(wildcard $(RECIPE_FILE)),)
  $(error RECIPE: expected one of $(basename $(notdir $(wildcard minicrit/recipes/*.yaml))) or a YAML \
      file, got "$(RECIPE)")
endif
# A path is one word to make.
IN_WORDS := $(strip $(foreach v,DATA FROM OUT BASE MODEL MODEL_1 MODEL_2 TARGET DRAFT TRADES PRICES LOG \
    STORE THUMBS KEYS ARCHIVE,$(if $(filter-out 0 1,$(words $($v))),$v)))
ifneq ($(IN_WORDS),)
  $(error $(firstword $(IN_WORDS)): expected a path without blanks, got \
      "$($(firstword $(IN_WORDS)))"; make a link without)
endif
ifneq ($(words $(BITS))$(filter-out 16 8 4,$(BITS)),1)
  $(error BITS: expected 16, 8 or 4, got "$(BITS)")
endif
ifneq ($(words $(FORMAT))$(filter-out hf gguf ollama vllm,$(FORMAT)),1)
  $(error FORMAT: expected hf, gguf, ollama or vllm, got "$(FORMAT)")
endif
one_of = $(if $(filter-out $(2),$($(1))),$(error $(1): expected one of $(2), got "$($(1))"))
$(call one_of,JUDGE,anthropic ollama openai local)
ASKS := $(firstword $(foreach v,JUDGE SCORER REVISER,$(if $(filter anthropic,$($v)),$v)))
ifneq ($(if $(strip $(ANTHROPIC_API_KEY)),,$(ASKS)),)
  $(error ANTHROPIC_API_KEY: expected a key in the environment for $(ASKS)=anthropic, got none; export it, or \
      name another $(ASKS))
endif
$(call one_of,SCORER,oracle anthropic ollama openai)
$(call one_of,REVISER,self anthropic ollama openai local)
$(call one_of,BACKEND,composer anthropic ollama openai local)
$(call one_of,KEEP_SCOPE,rationale global)
$(call one_of,GATE,drop halve)
numbers = $(foreach v,$(1),$(if $($v),$v=$(subst $(empty) ,_,$(strip $($v)))))
not_like = $(if $(strip $(1)),$(shell printf '%s\n' $(foreach one,$(1),'$(one)') | \
    grep -vE '^[A-Z_]+=($(2))$$' | head -n 1))
like = $(foreach odd,$(call not_like,$(call numbers,$(1)),$(2)),$(error $(firstword $(subst \
    =, ,$(odd))): expected $(3), got "$(lastword $(subst =, ,$(odd)))"))
$(call like,ROUNDS N COUNT,[1-9][0-9]*,a whole number from 1)
$(call like,CANDIDATES JUDGE_SAMPLE PORT,[0-9]+,a whole number)
$(call like,KEEP ALPHA,0|1|[01][.]0*|0?[.][0-9]+,a share from 0 to 1)
$(call like,BUDGET_USD,[0-9]*[.]?[0-9]+,a number)
ifneq ($(wildcard $(THUMBS)),$(THUMBS))
  $(error THUMBS: expected a file of thumbs, got none at "$(THUMBS)")
endif
# One that this run makes may come yet.
ON_CRITIC := calibrate quantize export pairs errors explain adapters bench-candidates
ifneq ($(if $(MODEL),$(filter $(ON_CRITIC),$(MAKECMDGOALS))),)
  ifeq ($(wildcard $(MODEL)/manifest.json)$(filter checkpoints/$(RUN)/%,$(MODEL)),)
    $(error MODEL: expected the folder of a critic, got none at "$(MODEL)")
  endif
endif
# These read no MODEL; who names one is told what does instead of getting another critic's result.
NOT_OF_MODEL := data sft dpo rsf rsf-control kto constitution ladder benchmark judge speculative
ifneq ($(if $(MODEL),$(if $(filter-out $(NOT_OF_MODEL),$(MAKECMDGOALS)),,$(MAKECMDGOALS))),)
  $(error MODEL: expected a goal that reads it, got "$(MAKECMDGOALS)"; name MODEL_1 for benchmark and \
      judge, TARGET for speculative, and to train on from a critic a recipe with sft.start)
endif
ifneq ($(words $(SEED)),$(if $(SEED),1,0))
  $(error SEED: expected one number, got "$(SEED)"; several are SEEDS, of ladder)
endif
ifneq ($(if $(SEEDS),$(SEED)$(filter-out ladder archive,$(MAKECMDGOALS))),)
  $(error SEEDS: expected the goal ladder (or archive) alone, and no SEED, got "$(MAKECMDGOALS)"$(if $(SEED), and \
      SEED=$(SEED)))
endif
$(call like,SEED,0|[1-9][0-9]*,a whole number)
$(call like,SEEDS,(0|[1-9][0-9]*)(_(0|[1-9][0-9]*))+,two whole numbers or more)
ifneq ($(words $(SEEDS)),$(words $(sort $(SEEDS))))
  $(error SEEDS: expected each seed once, got "$(SEEDS)")
endif
ifneq ($(SEED),)
  override ARGS := --seed $(SEED) $(ARGS)
endif
SETUP := .venv/.ready
# Inside of a Slurm job all stages are steps, training on all its machines, the others on one.
MINICRIT := $(if $(LAUNCH),$(LAUNCH) -N 1 -n 1) .venv/bin/minicrit
TRAIN := $(LAUNCH) .venv/bin/minicrit
STAMPS := .make/$(RUN)
DATA_DIR := data/$(RUN)
ADAPTER := checkpoints/$(RUN)/sft
SMALL := checkpoints/$(RUN)/int$(BITS)
EXPORTED = checkpoints/$(RUN)/export/$(notdir $(MODEL_USED:%/=%))-$(FORMAT)
PAIRS := data/$(RUN)-pairs
PREFERRED := checkpoints/$(RUN)/dpo
RESAMPLED := checkpoints/$(RUN)/rsf
REVISED := checkpoints/$(RUN)/constitution
LIKED := checkpoints/$(RUN)/kto
PLAIN := checkpoints/$(RUN)/plain
SPECIALISTS := checkpoints/$(RUN)/adapters
REPORTS := reports/$(RUN)
# Who is asked where nobody is named: the critic of the run, else the one that comes along.
ASKED = $(or $(MODEL),$(patsubst %/manifest.json,%,$(firstword $(wildcard $(ADAPTER)/manifest.json) \
    checkpoints/released/embedded-10/manifest.json)))
MODEL_USED := $(or $(MODEL),$(ADAPTER))
# It lies with the critic and is told apart from it: fitting it again makes only reports stale.
CALIBRATION := $(MODEL_USED)/calibration.json
# Whoever asks for something else keeps what it promises: other settings, and the calibration of
# another run's critic, are for those who ask for calibrate.
FITTING := $(filter calibrate,$(MAKECMDGOALS))
PROMISED := $(if $(FITTING),,$(shell sed -n '/"settings"/,/}/s/.*"alpha": *\([0-9.e-]*\).*/\1/p' \
    $(CALIBRATION).manifest.json 2>/dev/null))
# What changes a critic makes its probabilities wrong (arXiv 2505.01997), so each refits them.
REFITTED := $(filter-out $(CALIBRATION),$(patsubst %,%/calibration.json,$(PREFERRED) \
    $(RESAMPLED) $(REVISED) $(LIKED)))
empty :=
# What data of no run may hold: all that is measured on here, and what operators sent back.
MEASURED := $(filter-out %.rejected.jsonl,$(wildcard $(addprefix data/*/,validation*.jsonl \
    calibration*.jsonl test*.jsonl)))
HELD_OUT := $(filter-out %.rejected.jsonl,$(wildcard data/*/holdout*.jsonl))
listed = $(if $(strip $(1)),--filters.held_out $(subst $(empty) ,$(comma),$(strip $(1))))

TRAINED_RUNGS := $(addsuffix /manifest.json,$(PREFERRED) $(RESAMPLED) $(REVISED) $(SMALL))
# Every other critic of the run that is there, each judged by itself; not those of single rounds, nor
# what rounds leave beside them (STAGE-1, STAGE-1-revisions).
ROUNDS_DONE := $(wildcard $(foreach n,[0-9] [0-9][0-9] [0-9][0-9][0-9], \
    checkpoints/$(RUN)/*-$(n) checkpoints/$(RUN)/*-$(n)-*))
RUNGS := $(patsubst checkpoints/$(RUN)/%/manifest.json,$(REPORTS)/benchmark-%.json,$(filter-out \
    $(ADAPTER)/manifest.json $(addsuffix /manifest.json,$(ROUNDS_DONE)), \
    $(wildcard checkpoints/$(RUN)/*/manifest.json)))
# What the page shows beside what it is made of.
SHOWN := $(filter-out $(REPORTS)/benchmark.json,$(wildcard $(addprefix $(REPORTS)/,benchmark*.json \
    quantize-*.json sharpe.json agreement.json experiments.json)))
# These may be of another MODEL or of other ARGS: shown as they are, never made again for the page.
AS_THEY_ARE := $(wildcard $(addprefix $(REPORTS)/,errors.json explain.json adapters.json))
# Reports that the goals before it will only write, or that are newer than the page.
SHOWING := $(if $(filter ladder rungs errors explain adapters sharpe agreement experiments,\
    $(MAKECMDGOALS))$(if $(AS_THEY_ARE),$(shell find $(AS_THEY_ARE) -newer $(REPORTS)/index.html \
    2>/dev/null)),FORCE)

SPLITS := train train-fresh validation calibration test
ALL_ARGS := $(patsubst %,$(STAMPS)/%.args,base data sft calibrate benchmark judge errors explain pairs \
    dpo rsf kto constitution int$(BITS) export-$(FORMAT) adapters)
PUBLIC := $(if $(DATA),$(wildcard $(DATA)/*.jsonl $(DATA)/*.jsonl.gz))
# A critic that is named counts as it is, by its content: one of this run has a rule of its own, which
# would make it again with the variables of now. A base, which may be judged too, has no manifest.
NAMED := $(patsubst %/manifest.json,%,$(wildcard $(addsuffix /manifest.json,$(sort $(MODEL:%/=%) \
    $(MODEL_1:%/=%) $(MODEL_2:%/=%) $(TARGET:%/=%)))))
as_it_is = $(addprefix $(STAMPS)/as-it-is-,$(addsuffix .sum,$(subst /,+,$(filter $(1:%/=%),$(NAMED)))))
JUDGED := $(if $(MODEL_1),$(call as_it_is,$(MODEL_1)),$(STAMPS)/sft.sum $(wildcard \
    $(ADAPTER)/calibration.json)) $(call as_it_is,$(MODEL_2))
# Written when JUDGE has compared the critiques; benchmark asks for it only if there is one.
HEARD := $(STAMPS)/judge.done
COMPARED := $(if $(JUDGE),$(HEARD))
WRITES := $(if $(TARGET),$(call as_it_is,$(TARGET)),$(STAMPS)/sft.sum)
TRIED := $(if $(MODEL),$(call as_it_is,$(MODEL)),$(STAMPS)/sft.sum)
# One that this run makes may come yet.
SHRUNK := $(if $(MODEL),$(or $(call as_it_is,$(MODEL)),$(MODEL)/manifest.json),$(STAMPS)/sft.sum)
# A critic with a certified threshold is quantized to one with a certified threshold of its own.
SHRUNK_PROMISE := $(if $(filter $(SMALL),$(MODEL_USED)),,$(wildcard $(CALIBRATION)))
modules = $(wildcard $(patsubst %,minicrit/%.py,$(1)))
DATA_CODE := $(shell find data_gen -name '*.py' -o -name '*.yaml') \
    $(call modules,records row_files taxonomy data_config figures)
READING := critic reader loading readout encoding prompts impostors calibrated recount sums \
    equations rates statement figures
WRITING := decoding grounding spans pens sources
CALIBRATE_CODE := $(call modules,$(READING) calibrat* selective)
BENCHMARK_CODE := $(call modules,$(READING) $(WRITING) benchmark* judging latency measures \
    metamorphic resampling paired selective versus slices selection written scores statistics \
    bagofwords *tables which_flaw kept board)
JUDGE_CODE := $(wildcard data_gen/court/*.py data_gen/court/*.yaml data_gen/prompts/compare-*.txt \
    data_gen/constitution-*.yaml)
# What the oracle goes by.
ORACLE_CODE := $(wildcard data_gen/oracle.py data_gen/reasons.py) \
    $(call modules,written sums figures sources prompts)
ERRORS_CODE := $(wildcard $(patsubst %,data_gen/%.py,errors explained doubts)) $(ORACLE_CODE) \
    $(call modules,$(READING) $(WRITING) judging error* misses neighbours slices weak_slices) \
    $(wildcard minicrit/errors.html minicrit/page.html minicrit/macros.html)
EXPLAIN_CODE := $(wildcard $(patsubst %,data_gen/%.py,explanations explained check)) \
    $(ORACLE_CODE) $(call modules,$(READING) $(WRITING) judging)
# Which rationales are taken, what a critic writes of them, and what the oracle says of that.
SAMPLING_CODE := $(wildcard $(patsubst %,data_gen/%.py,candidates scouting screen filters public \
    firewall shingles)) $(ORACLE_CODE) $(call modules,$(READING) judging sampling decoding)
PAIRS_CODE := $(SAMPLING_CODE) $(wildcard $(patsubst %,data_gen/%.py,pairs preferences judge) \
    data_gen/prompts/judge-*.txt)
RSF_CODE := $(SAMPLING_CODE) $(wildcard data_gen/rejection.py)
CONSTITUTION_CODE := $(PAIRS_CODE) $(wildcard $(patsubst %,data_gen/%.py,constitution materials \
    revision revisers acceptance rules vitals) data_gen/constitution-*.yaml \
    data_gen/prompts/revise-*.txt)
EXPORT_CODE := $(wildcard minicrit/export/*.py)
ADAPTERS_CODE := $(call modules,$(READING) adapter* specialists router* members lanes detector \
    versus paired measures)
QUANTIZE_CODE := $(call modules,quantize* shrinking int8 int4)
DATA_REPORT_CODE := $(wildcard data_gen/*.html) $(call modules,pages plots bagofwords)
REPORT_CODE := $(call modules,report pages adapter_page *tables plots targets views *_views ladder \
    heat) $(wildcard minicrit/*.html)

# What each stage is told beside the recipe; ARGS come last, so they win.
CONFIG := --config $(RECIPE)
# A recipe's commit is that of its own base.
SETTINGS_base := $(if $(BASE),--base.model $(BASE) --base.revision null)
SETTINGS_data := $(SETTINGS_base) --data.folder $(DATA_DIR) $(if $(DATA),--data.public $(DATA)) \
    $(call listed,$(HELD_OUT))
SETTINGS_sft := $(SETTINGS_base) --data.folder $(DATA_DIR) --sft.out $(ADAPTER)
# What DATA holds may be without test rows, which only the data stage can tell.
IF_PUBLIC := $$([ ! -e $(DATA_DIR)/test-public.jsonl ] || echo ,$(DATA_DIR)/test-public.jsonl)
SETTINGS_benchmark := --benchmark.model_1 $(or $(MODEL_1),$(ADAPTER)) \
    $(if $(MODEL_2),--benchmark.model_2 $(MODEL_2)) --benchmark.words_data $(DATA_DIR)/train.jsonl \
    --benchmark.data $(DATA_DIR)/test.jsonl$(if $(DATA),$(IF_PUBLIC)) \
    --benchmark.out $(REPORTS)/benchmark
JUDGED_BY := $(if $(JUDGE),--judge.backend $(JUDGE)) \
    $(if $(MODEL_NAME),--judge.model $(MODEL_NAME)) $(if $(URL),--judge.url $(URL)) \
    $(if $(BUDGET_USD),--judge.budget_usd $(BUDGET_USD))
SETTINGS_judge := $(SETTINGS_benchmark) $(JUDGED_BY) \
    $(if $(JUDGE_SAMPLE),--judge.sample $(JUDGE_SAMPLE))
SETTINGS_errors := $(SETTINGS_base) --errors.model $(MODEL_USED) \
    --errors.data $(DATA_DIR)/validation.jsonl --errors.train $(DATA_DIR)/train.jsonl \
    --errors.out $(REPORTS)/errors $(if $(JUDGE),--errors.judge $(JUDGE) \
    $(if $(MODEL_NAME),--errors.judge_model $(MODEL_NAME)) $(if $(URL),--errors.url $(URL)) \
    $(if $(BUDGET_USD),--errors.budget_usd $(BUDGET_USD)))
SETTINGS_explain := --explain.model $(MODEL_USED) --explain.data $(DATA_DIR)/test.jsonl \
    --explain.out $(REPORTS)/explain
SETTINGS_calibrate := $(SETTINGS_base) --calibrate.data $(DATA_DIR)/calibration.jsonl \
    $(if $(ALPHA),--calibrate.alpha $(ALPHA))
SETTINGS_int$(BITS) := --quantize.model $(MODEL_USED) --quantize.bits $(BITS) \
    --quantize.data $(DATA_DIR)/test.jsonl --quantize.out $(SMALL) \
    --quantize.report $(REPORTS)/quantize-int$(BITS) \
    $(if $(SHRUNK_PROMISE),--quantize.calibration $(DATA_DIR)/calibration.jsonl)
SETTINGS_export-$(FORMAT) := $(SETTINGS_base) --export.model $(MODEL_USED) \
    --export.format $(FORMAT) --export.out $(EXPORTED)
# How pairs are made, by make pairs and by the later rounds of make dpo.
PAIRING := --pairs.data $(DATA_DIR)/train-fresh.jsonl \
    $(if $(CANDIDATES),--pairs.candidates $(CANDIDATES)) \
    $(if $(SCORER),--pairs.scorer $(SCORER)) $(if $(URL),--pairs.url $(URL)) \
    $(if $(MODEL_NAME),--pairs.judge_model $(MODEL_NAME)) \
    $(if $(BUDGET_USD),--pairs.budget_usd $(BUDGET_USD))
# Training learns from pairs of the critic that it starts from, whatever MODEL is for another goal.
PAIRED := $(if $(filter dpo kto ladder,$(MAKECMDGOALS)),,$(if $(filter pairs \
    bench-candidates,$(MAKECMDGOALS)),$(MODEL)))
SETTINGS_pairs := --pairs.model $(or $(PAIRED),$(ADAPTER)) --pairs.out $(PAIRS) $(PAIRING)
SETTINGS_dpo := $(SETTINGS_base) --data.folder $(DATA_DIR) --dpo.start $(ADAPTER) \
    --dpo.pairs $(PAIRS)/pairs.jsonl --dpo.out $(PREFERRED) \
    $(if $(ROUNDS),--dpo.rounds $(ROUNDS)) $(PAIRING)
SETTINGS_rsf := $(SETTINGS_base) --data.folder $(DATA_DIR) --rsf.start $(ADAPTER) \
    --rsf.data $(DATA_DIR)/train-fresh.jsonl --rsf.out $(RESAMPLED) $(if $(N),--rsf.drawn $(N)) \
    $(if $(KEEP),--rsf.keep $(KEEP)) $(if $(KEEP_SCOPE),--rsf.keep_scope $(KEEP_SCOPE)) \
    $(if $(ROUNDS),--rsf.rounds $(ROUNDS))
SETTINGS_kto := $(SETTINGS_base) --data.folder $(DATA_DIR) --kto.start $(ADAPTER) \
    --kto.thumbs $(or $(THUMBS),$(PAIRS)/pairs.jsonl) --kto.out $(LIKED)
SETTINGS_constitution := $(SETTINGS_base) --data.folder $(DATA_DIR) \
    --constitution.start $(ADAPTER) --constitution.data $(DATA_DIR)/train-fresh.jsonl \
    --constitution.out $(REVISED) $(if $(ROUNDS),--constitution.rounds $(ROUNDS)) \
    $(if $(REVISER),--constitution.reviser $(REVISER)) $(if $(URL),--constitution.url $(URL)) \
    $(if $(MODEL_NAME),--constitution.model $(MODEL_NAME)) \
    $(if $(BUDGET_USD),--constitution.budget_usd $(BUDGET_USD))
SETTINGS_adapters := $(SETTINGS_base) --adapters.start $(MODEL_USED) --adapters.data $(DATA_DIR) \
    --adapters.parts $(DATA_DIR)-adapters --adapters.out $(SPECIALISTS) \
    --adapters.router checkpoints/$(RUN)/router --adapters.report $(REPORTS)/adapters \
    $(if $(ALPHA),--calibrate.alpha $(ALPHA))
SETTINGS_data-report := --data.folder $(DATA_DIR) --pairs.out $(PAIRS) \
    --benchmark.out $(REPORTS)/benchmark
SETTINGS_report := --data.folder $(DATA_DIR) --sft.out $(ADAPTER) \
    --benchmark.out $(REPORTS)/benchmark

# Sections of the recipe that decide what a stage makes.
SECTIONS_base := base
SECTIONS_data := seed base data filters
SECTIONS_sft := seed base data lora sft
SECTIONS_calibrate := seed calibrate
SECTIONS_benchmark := seed benchmark
SECTIONS_judge := seed benchmark judge
SECTIONS_errors := seed errors
SECTIONS_explain := seed explain
SECTIONS_int$(BITS) := seed quantize$(if $(SHRUNK_PROMISE), calibrate)
SECTIONS_export-$(FORMAT) := base export
SECTIONS_pairs := seed pairs filters
SECTIONS_dpo := seed base data lora dpo pairs filters
SECTIONS_kto := seed base data lora kto
SECTIONS_constitution := seed base data lora constitution dpo rsf filters
SECTIONS_adapters := seed base data lora sft calibrate adapters
SECTIONS_rsf := seed base data lora rsf filters

# All that have a line of help.
.PHONY: FORCE $(shell sed -n 's/^\([a-z-]*\):.*## .*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## list the targets and variables
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; sed -n 's/^#? /  /p' $(firstword $(MAKEFILE_LIST))

setup: $(SETUP) ## make .venv and install everything at exact versions
base: $(STAMPS)/base ## make the base model ready
data: $(DATA_DIR)/manifest.json ## compose the examples, mix DATA in
data-report: $(REPORTS)/data.html ## write one page about the data and, if there, the pairs
sft: $(ADAPTER)/manifest.json ## train the adapter
pairs: $(PAIRS)/manifest.json ## make preference pairs from the critic's own critiques
dpo: $(PREFERRED)/calibration.json ## train the adapter on preference pairs, refit its calibration
rsf: $(RESAMPLED)/calibration.json ## train it on the best of its own critiques, refit
rsf-control: rsf ## train it as long on reference critiques instead: what rsf has to beat
	$(TRAIN) rsf $(CONFIG) $(SETTINGS_rsf) --rsf.control true $(ARGS)
kto: $(LIKED)/calibration.json ## train it on thumbs (THUMBS, or pairs taken apart), refit
constitution: $(REVISED)/calibration.json ## let it revise its critiques under ten rules, learn, refit
adapters: $(REPORTS)/adapters.json ## a specialist a domain that goes on from MODEL; route, compare
average: $(SETUP) ## average CRITICS (adapters of one descent) into checkpoints/RUN/average
	$(MINICRIT) average $(CONFIG) --average.critics "[$(subst $(empty) ,$(comma),$(strip $(CRITICS)))]" \
	    --average.out checkpoints/$(RUN)/average $(ARGS)

calibrate: $(CALIBRATION) ## fit MODEL's probabilities; certify a threshold, ALPHA=0.02
benchmark: $(REPORTS)/benchmark.json $(COMPARED) ## judge MODEL_1, and MODEL_2 beside it; then JUDGE
judge: $(HEARD) ## let JUDGE compare the critiques of MODEL_1 and MODEL_2
errors: $(REPORTS)/errors.json ## say what MODEL gets wrong, and why; FOCUS reads the result
plain: $(PLAIN)/manifest.json ## train on as many texts without twins: what twins have to beat
SEEDED := $(SEEDS:%=$(RUN)-seed%)
ifneq ($(SEEDS),)
ladder: $(SETUP)
	@for seed in $(SEEDS); do \
	    $(MAKE) --no-print-directory SEEDS= SEED=$$seed RUN=$(RUN)-seed$$seed ladder report; done
	$(MINICRIT) seeds $(CONFIG) --seeds.reports $(subst $(empty) ,$(comma),$(SEEDED:%=reports/%)) \
	    --seeds.out $(REPORTS)-seeds/ladder $(ARGS)
else
# In a make of its own, as what there is to judge is only known when all is trained. All are read at
# 0.5, so none is calibrated for it.
ladder: plain $(TRAINED_RUNGS) ## train every rung and judge it: the ladder
	@$(MAKE) --no-print-directory rungs
endif
rungs: $(REPORTS)/benchmark.json $(RUNGS) ## judge every critic of the RUN that is there
explain: $(REPORTS)/explain.json ## check whole critiques by MODEL: type, place, reasons, figures
quantize: $(SMALL)/manifest.json ## make the BITS-bit critic and compare it with the float one
export: $(EXPORTED)/manifest.json ## take MODEL out in FORMAT, to checkpoints/RUN/export
report: $(REPORTS)/index.html ## write one page about the run

pipeline: $(REPORTS)/index.html ## everything: setup, base, data, sft, benchmark, quantize, report
	@echo; cat $(REPORTS)/summary.md; echo; echo "report: $<"

critique: $(SETUP) ## judge one rationale: TEXT="...", DOMAIN=trading
	@$(MINICRIT) critique "$$MINICRIT_TEXT" --domain $(DOMAIN) --model $(ASKED) $(ARGS)

serve: $(SETUP) ## answer over HTTP with MODEL, and the operators' page: HOST, PORT, KEYS
	@$(MINICRIT) serve $(CONFIG) $(SETTINGS_base) --serve.model $(ASKED) \
	    $(if $(HOST),--serve.host $(HOST)) $(if $(PORT),--serve.port $(PORT)) \
	    $(if $(KEYS),--serve.key_file $(KEYS)) $(ARGS)

load-test: $(SETUP) ## try the service with 50 clients on the tiny base: ARGS="--clients 50 --kill"
	@.venv/bin/python -m tests.load.trial $(ARGS)

hard: $(SETUP) ## make COUNT hard examples with BACKEND
	$(MINICRIT) hard $(CONFIG) --hard.count $(COUNT) --hard.backend $(BACKEND) \
	    --hard.out data/hard-$(BACKEND)$(if $(FOCUS),-focus) $(if $(MODEL_NAME),--hard.model $(MODEL_NAME)) \
	    $(if $(URL),--hard.url $(URL)) $(if $(FOCUS),--hard.focus $(FOCUS)) \
	    $(if $(filter-out 0,$(BATCH)),--hard.batch true) \
	    $(if $(BUDGET_USD),--hard.budget_usd $(BUDGET_USD)) \
	    $(call listed,$(MEASURED) $(HELD_OUT)) $(ARGS)

import: $(SETUP) ## bring the public set in FROM to Example files in OUT
	$(MINICRIT) import $(CONFIG) $(if $(FROM),--imports.source $(FROM)) --imports.kind $(KIND) \
	    --imports.out $(OUT) $(ARGS)

adversarial: $(SETUP) ## write the adversarial suite and what it covers
	$(MINICRIT) adversarial $(CONFIG) $(ARGS)

injections: $(DATA_DIR)/manifest.json ## append texts that try to talk MODEL into `valid`
	$(MINICRIT) injections $(CONFIG) --injections.model $(MODEL_USED) \
	    --injections.data $(DATA_DIR)/test.jsonl --injections.out $(REPORTS)/injections $(ARGS)

sharpe: $(SETUP) ## measure what the gate does to the book in TRADES
	$(MINICRIT) sharpe $(CONFIG) --sharpe.model $(MODEL_USED) --sharpe.out $(REPORTS)/sharpe \
	    $(if $(TRADES),--sharpe.trades $(TRADES)) $(if $(PRICES),--sharpe.prices $(PRICES)) \
	    $(if $(GATE),--sharpe.gate $(GATE)) $(ARGS)

# The wheel is opened for the prices in it, never imported: its dependencies are not needed.
sharpe-demo: $(SETUP) ## make trades on real prices, labels known: data/sharpe-demo/trades.csv
	.venv/bin/python -m pip install --quiet --no-deps "$$(grep '^skfolio==' constraints.txt)"
	$(MINICRIT) sharpe-demo $(CONFIG) $(ARGS)

agreement: $(SETUP) ## compare verdicts with the operators' decisions in LOG
	$(MINICRIT) agreement $(CONFIG) --agreement.model $(MODEL_USED) \
	    --agreement.out $(REPORTS)/agreement $(if $(LOG),--agreement.log $(LOG)) $(ARGS)

OPERATORS := data/operators
feedback-pairs: $(SETUP) ## make examples and preference pairs of the operators' decisions in STORE
	$(MINICRIT) feedback-pairs $(CONFIG) $(if $(STORE),--feedback.store $(STORE)) \
	    --feedback.out $(OPERATORS) \
	    $(call listed,$(MEASURED) $(filter-out $(OPERATORS)/%,$(HELD_OUT))) $(ARGS)

# In a make of its own, as what the run depends on is only known once the decisions are out. MODEL is
# where it goes on from, not what is calibrated.
retrain-from-feedback: feedback-pairs ## go on from MODEL (or the recipe's) with them; recalibrate
	$(MAKE) calibrate RECIPE=$(if $(filter file,$(origin RECIPE)),feedback,$(RECIPE)) \
	    RUN=$(if $(filter file,$(origin RUN)),feedback,$(RUN)) MODEL= DATA=$(OPERATORS)/examples \
	    ARGS='$(subst ','\'',$(if $(MODEL),--sft.start $(MODEL)) $(ARGS))'

# The base, beside which critics are benchmarked, is nobody's treatment unless it is named.
ab: $(SETUP) ## begin an experiment (NAME, MODEL_2), see how it stands, stop it by its rules
	$(MINICRIT) ab $(CONFIG) $(if $(STORE),--ab.store $(STORE)) $(if $(NAME),--ab.name $(NAME) \
	    --ab.control $(ASKED) $(if $(call given,MODEL_2),$(MODEL_2:%=--ab.treatment %))) $(ARGS)

bench-ab: $(SETUP) ## simulate 2,000 A/A experiments under continuous peeking
	$(MINICRIT) ab $(CONFIG) --ab.simulate 2000 $(ARGS)

qualify: $(SETUP) ## examine JUDGE on critiques of known quality
	$(MINICRIT) qualify $(CONFIG) --benchmark.out $(REPORTS)/benchmark $(JUDGED_BY) $(ARGS)

experiments: $(DATA_DIR)/manifest.json $(TRIED) ## try temperatures, prompts, reasoning, layouts
	$(MINICRIT) experiments $(CONFIG) --experiments.model $(MODEL_USED) \
	    --experiments.data $(DATA_DIR)/validation.jsonl \
	    --experiments.out $(REPORTS)/experiments $(ARGS)

speculative: $(DATA_DIR)/manifest.json $(WRITES) ## how much faster TARGET writes with drafts, same text
	$(MINICRIT) speculative $(CONFIG) --speculative.target $(or $(TARGET),$(ADAPTER)) \
	    $(if $(DRAFT),--speculative.draft $(DRAFT) \
	    --speculative.arms '[lookup$(comma) phrases$(comma) model$(comma) both]') \
	    --speculative.data $(DATA_DIR)/test.jsonl --speculative.phrases $(DATA_DIR)/train.jsonl \
	    --speculative.out $(REPORTS)/speculative $(ARGS)

bench-candidates: $(DATA_DIR)/manifest.json $(SHRUNK) ## time candidates: shared prompts, one by one
	$(MINICRIT) bench-candidates $(CONFIG) $(SETTINGS_pairs) $(ARGS)

probe: $(DATA_DIR)/manifest.json ## ask whether words, length or source give the labels away
	$(MINICRIT) probe $(CONFIG) $(SETTINGS_data) $(ARGS)

bench-filters: $(SETUP) ## time filters, duplicates and firewall on a million rows
	$(MINICRIT) bench-filters $(CONFIG) $(ARGS)

bench-train: $(SETUP) ## time training steps against TRL's, and their memory
	$(MINICRIT) bench-train $(CONFIG) $(SETTINGS_base) $(ARGS)

verify: $(SETUP) ## recompute the chain of manifests; no training row may be measured on
	$(MINICRIT) verify $(CONFIG) $(ARGS)

runs: $(SETUP) ## list all runs, or COMPARE two of them
	@$(MINICRIT) runs $(CONFIG) $(if $(COMPARE),--runs.compare $(COMPARE)) $(ARGS)

doctor: $(SETUP) ## check this machine: wheels, GPU, disk, keys, servers, base
	@$(MINICRIT) doctor $(CONFIG) $(SETTINGS_base) $(ARGS)

preflight: $(SETUP) ## check all machines of a job: network between them, bandwidth, disks
	@$(MINICRIT) doctor $(CONFIG) $(SETTINGS_base) $(ARGS)
	@$(TRAIN) preflight $(CONFIG) $(ARGS)

prefetch: $(SETUP) ## fetch the base, so that training and measuring work without a network
	HF_HUB_OFFLINE=0 HF_HUB_DISABLE_XET=1 $(MINICRIT) base $(CONFIG) $(SETTINGS_base) $(ARGS)

ARCHIVED := $(foreach run,$(or $(SEEDED),$(RUN)),data/$(run) data/$(run)-pairs checkpoints/$(run) \
    reports/$(run)) $(if $(SEEDS),$(REPORTS)-seeds)
archive: ## copy data, pairs, critics and reports of this RUN to ARCHIVE, not work in progress
	@test -n "$(ARCHIVE)" || { echo "ARCHIVE: expected a folder, got none; name it" >&2; exit 1; }
	@for path in $(wildcard $(ARCHIVED)); do \
	    to="$(ARCHIVE)/$$path"; echo "$$path -> $$to"; rm -rf -- "$$to.part"; mkdir -p "$$to.part"; \
	    tar -cf - --exclude='*.work' --exclude='*.tmp' -C "$$path" . | tar -xf - -C "$$to.part"; \
	    rm -rf -- "$$to"; mv "$$to.part" "$$to"; done

# Fetched beside, verified by the hashes of the manifests, then moved: a fetch that broke off goes on.
FETCHED := checkpoints/.$(RUN).fetched
vista-fetch: $(SETUP) ## bring checkpoints/RUN from VISTA, verified by hash; goes on if it broke off
	@test -n "$(VISTA)" || { echo "VISTA: expected USER@HOST:FOLDER, got none; name the archive" \
	    >&2; exit 1; }
	@command -v rsync > /dev/null || { echo "expected rsync, got none; install it" >&2; exit 1; }
	rsync -a --partial "$(VISTA)/checkpoints/$(RUN)/" $(FETCHED)/
	$(MINICRIT) verify --verify.folders $(FETCHED) --verify.inputs false
	@mkdir -p checkpoints/$(RUN)
	@for path in $(FETCHED)/*; do to="checkpoints/$(RUN)/$${path##*/}"; rm -rf -- "$$to"; \
	    mv "$$path" "$$to"; echo "$$to"; done; rmdir $(FETCHED)

audit: $(SETUP) ## ask for known holes in the pinned versions (needs pip-audit)
	@test -x .venv/bin/pip-audit || { echo "expected pip-audit, got none;" \
	    ".venv/bin/python -m pip install pip-audit" >&2; exit 1; }
	.venv/bin/pip-audit --no-deps --disable-pip --requirement constraints.txt $(ARGS)

test: lint types fast ## lint, types, fast tests
# What is compiled is kept, or each process of the tests would compile all of them anew.
fast: $(SETUP) ## the fast tests alone
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto \
	    --dist worksteal $(ARGS)

test-slow: $(SETUP) ## the tests that take minutes
	.venv/bin/python -m pytest -m slow $(ARGS)

test-browser: $(SETUP) ## report and console in a headless Chromium or Chrome, which must be installed
	@command -v chromium chromium-browser google-chrome google-chrome-stable > /dev/null || { \
	    echo "expected chromium or google-chrome on PATH, got none; apt-get install chromium" >&2; \
	    exit 1; }
	.venv/bin/python -m pytest -m browser $(ARGS)

test-resume: $(SETUP) ## hundreds of kills over eight stages: ARGS="--kills 240 --seed 0 --stage sft"
	OMP_NUM_THREADS=1 .venv/bin/python -u -m tests.resume.campaign $(ARGS)

test-slurm: $(SETUP) ## the batch files against a real Slurm of one machine, where it is installed
	.venv/bin/python -m pytest -m slurm $(ARGS)

lint: $(SETUP) ## ruff: rules and format
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# The first time takes a minute and more of one core; later ones, from its cache, gain nothing by two.
types: $(SETUP) ## mypy, strict
	.venv/bin/mypy $(if $(wildcard .mypy_cache),,-n auto)

tensorboard: $(SETUP) ## show training curves, on this machine only
	.venv/bin/tensorboard --logdir runs --host 127.0.0.1 $(ARGS)

clean: ## remove what this RUN made, except what is committed
	@for path in $(DATA_DIR) $(DATA_DIR).rejected $(DATA_DIR)-plain $(PAIRS) $(PAIRS).work $(DATA_DIR)-adapters \
	    checkpoints/$(RUN) $(FETCHED) $(REPORTS) $(REPORTS)-seeds runs/$(RUN) $(STAMPS); do \
	    if [ -e "$$path" ]; then echo "removing $$path"; rm -rf -- "$$path"; fi; done

distclean: ## remove all that was made here, runs, bases, .venv, caches, but not feedback/
	@for path in data reports runs .make .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis \
	    minicrit.egg-info $(filter-out %/README.md %/released,$(wildcard checkpoints/* \
	    checkpoints/.*.fetched)); do \
	    if [ -e "$$path" ]; then echo "removing $$path"; rm -rf -- "$$path"; fi; done

# The stamp is written last: an installation that failed or was stopped is tried again.
$(SETUP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 11) or \
	    sys.exit(f"expected Python 3.11 or later, got {v[0]}.{v[1]}; set PYTHON=")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install "$$(grep '^torch==' constraints.txt)" -c constraints.txt
	.venv/bin/python -m pip install -e '.[dev]' -c constraints.txt
	@touch $@

# A stage's settings: what it is told, its sections of the recipe, its words of ARGS. The stamp's
# time changes only when this text does, so other settings make nothing stale.
# Critics and reports that recipe or ARGS name to go on from count with their content; the first line
# is what make says, and names what has stamps of its own.
GOES_ON_FROM := NR > 1 { gsub(/[{},"\047]/, " "); for (i = 1; i <= NF; i++) { if (named) print $$i; \
    named = $$i ~ /^(--[a-z]+[.])?(start|focus):?$$/; \
    if (sub(/^--[a-z]+[.](start|focus)=/, "", $$i)) print $$i } }
any_of = ($(subst $() ,|,$(strip $(1))))
replace_if_new = if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(ALL_ARGS): $(STAMPS)/%.args: FORCE
	@mkdir -p $(@D) $(if $(filter data,$*),$(STAMPS)/told)
	@$(if $(filter data,$*),$(foreach v,$(TOLD),echo '$($(v))' > $(STAMPS)/told/$(v);))
	@{ echo '$(SETTINGS_$*)'; \
	    awk '/^ *(#|$$)/{next} /^[^ ]/{k = !/^[a-z_]+:/ || /^$(call any_of,$(SECTIONS_$*)):/} k' \
	        $(RECIPE_FILE); \
	    printf '%s\n' $(ARGS) | awk '/^--/{k = /^--$(call any_of,$(SECTIONS_$*))/} k'; \
	    $(if $(filter data,$*),echo $(PUBLIC);) \
	} > $@.new
	@for path in $$(awk '$(GOES_ON_FROM)' $@.new); do \
	    for file in "$$path" "$$path/manifest.json"; do \
	        if [ -f "$$file" ]; then cksum "$$file"; fi; done; done >> $@.new
	@$(replace_if_new)

# The base may lie anywhere; the stamp says where. If it is gone, it is made again.
BASE_FOLDER := $(firstword $(shell cat $(STAMPS)/base 2>/dev/null))
$(STAMPS)/base: $(STAMPS)/base.args $(if $(wildcard $(BASE_FOLDER)/config.json),,FORCE) | $(SETUP)
	$(MINICRIT) base $(CONFIG) $(SETTINGS_base) $(ARGS) > $@.new
	@mv $@.new $@

$(DATA_DIR)/manifest.json: $(STAMPS)/data.args $(DATA_CODE) $(PUBLIC) $(HELD_OUT) | $(STAMPS)/base $(SETUP)
	$(MINICRIT) data $(CONFIG) $(SETTINGS_data) $(ARGS)

# Pairs are shown as they are: pairs.jsonl has no rule, so they are not made for this.
$(REPORTS)/data.html: $(DATA_DIR)/manifest.json $(wildcard $(PAIRS)/pairs.jsonl) \
    $(DATA_REPORT_CODE) $(wildcard minicrit/page.html minicrit/macros.html) | $(SETUP)
	$(MINICRIT) data-report $(CONFIG) $(SETTINGS_data-report) $(ARGS)

# Base, data files and adapter count by content: made again the same, they make nothing stale.
$(SPLITS:%=$(DATA_DIR)/%.jsonl): $(DATA_DIR)/manifest.json ;
$(SPLITS:%=$(STAMPS)/%.sum): $(STAMPS)/%.sum: $(DATA_DIR)/%.jsonl
$(STAMPS)/base.sum: $(STAMPS)/base
$(STAMPS)/sft.sum: $(ADAPTER)/manifest.json
$(STAMPS)/pairs.sum: $(PAIRS)/manifest.json
$(patsubst %,$(STAMPS)/%.sum,$(SPLITS) base sft pairs):
	@cksum < $< > $@.new; $(replace_if_new)

define STAMP_OF
$(call as_it_is,$(1)): FORCE
	@mkdir -p $$(@D); cat $(1)/manifest.json $(wildcard $(1)/calibration.json) | cksum > $$@.new; \
	    $$(replace_if_new)
endef
$(foreach one,$(NAMED),$(eval $(call STAMP_OF,$(one))))

$(ADAPTER)/manifest.json: $(STAMPS)/sft.args $(STAMPS)/base.sum $(STAMPS)/train.sum \
    $(STAMPS)/validation.sum | $(SETUP)
	$(TRAIN) sft $(CONFIG) $(SETTINGS_sft) $(ARGS)
	@touch $@

# A stage's folder is whole or not there, so what comes after it, Ctrl-C too, is no reason to take
# its manifest away: a folder without one would be nobody's, and refused.
.PRECIOUS: $(foreach made,$(DATA_DIR) $(DATA_DIR)-plain $(PAIRS) $(ADAPTER) $(PLAIN) $(PREFERRED) \
    $(RESAMPLED) $(LIKED) $(REVISED) $(SMALL) $(EXPORTED),$(made)/manifest.json)

# Texts without twins, and the loss of the next token alone; everything else as in sft.
$(DATA_DIR)-plain/manifest.json: $(DATA_DIR)/manifest.json
	$(MINICRIT) data $(CONFIG) $(SETTINGS_data) --data.alone true --data.fresh 0 \
	    --data.folder $(@D) $(ARGS)
$(PLAIN)/manifest.json: $(DATA_DIR)-plain/manifest.json $(STAMPS)/sft.args $(STAMPS)/base.sum
	$(TRAIN) sft $(CONFIG) $(SETTINGS_base) --data.folder $(DATA_DIR)-plain --sft.out $(@D) \
	    --sft.share_prefix false --sft.coherence 0 --sft.running 0 --sft.deep 0 $(ARGS)
	@touch $@

# A critic that is made again loses its calibration with its folder.
$(CALIBRATION): $(if $(FITTING),$(STAMPS)/calibrate.args) $(if $(FITTING)$(if $(MODEL),,own), \
    $(STAMPS)/calibration.sum $(CALIBRATE_CODE)) $(if $(MODEL),,$(STAMPS)/sft.sum) | $(SETUP)
	$(MINICRIT) calibrate $(CONFIG) $(SETTINGS_calibrate) --calibrate.model $(@D) \
	    $(if $(PROMISED),--calibrate.alpha $(PROMISED)) $(ARGS)

$(REFITTED): %/calibration.json: %/manifest.json $(STAMPS)/calibrate.args \
    $(STAMPS)/calibration.sum $(CALIBRATE_CODE) | $(SETUP)
	$(MINICRIT) calibrate $(CONFIG) $(SETTINGS_calibrate) --calibrate.model $(@D) $(ARGS)

$(REPORTS)/benchmark.json: $(STAMPS)/benchmark.args $(STAMPS)/base.sum $(STAMPS)/train.sum \
    $(STAMPS)/test.sum $(BENCHMARK_CODE) $(JUDGED) | $(SETUP)
	$(MINICRIT) benchmark $(CONFIG) $(SETTINGS_benchmark) $(ARGS)

# A stamp, as the report is there even if too much of it is unscored.
$(HEARD): $(STAMPS)/judge.args $(STAMPS)/base.sum $(STAMPS)/test.sum $(JUDGE_CODE) \
    $(JUDGED) | $(SETUP)
	$(MINICRIT) judge $(CONFIG) $(SETTINGS_judge) $(ARGS)
	@touch $@

$(REPORTS)/errors.json: $(STAMPS)/errors.args $(STAMPS)/train.sum $(STAMPS)/validation.sum \
    $(ERRORS_CODE) $(SHRUNK) $(wildcard $(CALIBRATION)) | $(SETUP)
	$(MINICRIT) errors $(CONFIG) $(SETTINGS_errors) $(ARGS)

$(REPORTS)/explain.json: $(STAMPS)/explain.args $(STAMPS)/test.sum $(EXPLAIN_CODE) $(SHRUNK) \
    $(wildcard $(CALIBRATION)) | $(SETUP)
	$(MINICRIT) explain $(CONFIG) $(SETTINGS_explain) $(ARGS)

# One command, as what is finished of it is skipped.
$(REPORTS)/adapters.json: $(STAMPS)/adapters.args $(STAMPS)/train.sum $(STAMPS)/validation.sum \
    $(STAMPS)/calibration.sum $(STAMPS)/test.sum $(ADAPTERS_CODE) $(SHRUNK) | $(SETUP)
	$(MINICRIT) adapters $(CONFIG) $(SETTINGS_adapters) $(ARGS)

# The folder, not its manifest: critics are judged as they are, not made again. It is as new as what
# was last put into it, a calibration too.
$(RUNGS): $(REPORTS)/benchmark-%.json: checkpoints/$(RUN)/% $(STAMPS)/benchmark.args \
    $(STAMPS)/test.sum $(BENCHMARK_CODE) | $(SETUP)
	$(MINICRIT) benchmark $(CONFIG) $(SETTINGS_benchmark) --benchmark.model_1 $< \
	    --benchmark.model_2 null --benchmark.words false --benchmark.critiques 0 \
	    --benchmark.latency_items 0 --benchmark.out $(@:.json=) $(ARGS)

$(PAIRS)/manifest.json: $(STAMPS)/pairs.args $(STAMPS)/train-fresh.sum $(PAIRS_CODE) \
    $(if $(PAIRED),$(SHRUNK),$(STAMPS)/sft.sum) | $(SETUP)
	$(MINICRIT) pairs $(CONFIG) $(SETTINGS_pairs) $(ARGS)
	@touch $@

$(PREFERRED)/manifest.json: $(STAMPS)/dpo.args $(STAMPS)/pairs.sum $(STAMPS)/sft.sum \
    $(STAMPS)/validation.sum | $(SETUP)
	$(TRAIN) dpo $(CONFIG) $(SETTINGS_dpo) $(ARGS)
	@touch $@

$(RESAMPLED)/manifest.json: $(STAMPS)/rsf.args $(STAMPS)/train-fresh.sum $(STAMPS)/sft.sum \
    $(STAMPS)/validation.sum $(RSF_CODE) | $(SETUP)
	$(TRAIN) rsf $(CONFIG) $(SETTINGS_rsf) $(ARGS)
	@touch $@

$(LIKED)/manifest.json: $(STAMPS)/kto.args $(or $(THUMBS),$(STAMPS)/pairs.sum) $(STAMPS)/sft.sum \
    $(STAMPS)/validation.sum | $(SETUP)
	$(TRAIN) kto $(CONFIG) $(SETTINGS_kto) $(ARGS)
	@touch $@

$(REVISED)/manifest.json: $(STAMPS)/constitution.args $(STAMPS)/train-fresh.sum $(STAMPS)/sft.sum \
    $(STAMPS)/validation.sum $(CONSTITUTION_CODE) | $(SETUP)
	$(TRAIN) constitution $(CONFIG) $(SETTINGS_constitution) $(ARGS)
	@touch $@

$(SMALL)/manifest.json: $(STAMPS)/int$(BITS).args $(STAMPS)/test.sum $(QUANTIZE_CODE) \
    $(if $(SHRUNK_PROMISE),$(STAMPS)/calibration.sum $(SHRUNK_PROMISE)) $(SHRUNK) | $(SETUP)
	$(MINICRIT) quantize $(CONFIG) $(SETTINGS_int$(BITS)) $(ARGS)
	@touch $@

# A calibration that was fitted since goes along, too.
$(EXPORTED)/manifest.json: $(STAMPS)/export-$(FORMAT).args $(EXPORT_CODE) $(SHRUNK) \
    $(wildcard $(CALIBRATION)) | $(SETUP)
	$(MINICRIT) export $(CONFIG) $(SETTINGS_export-$(FORMAT)) $(ARGS)
	@touch $@

$(REPORTS)/index.html: $(REPORTS)/benchmark.json $(SMALL)/manifest.json $(DATA_DIR)/manifest.json \
    $(REPORT_CODE) $(SHOWN) $(SHOWING) | $(SETUP)
	$(MINICRIT) report $(CONFIG) $(SETTINGS_report) $(ARGS)
