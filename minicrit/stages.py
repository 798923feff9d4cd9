"""Every stage by name: what it is, and what runs it.

This file and `minicrit/train.py` are the only ones here that see other rooms, and only when a stage
needs them.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from minicrit.config import Recipe


@dataclass(frozen=True)
class Stage:
    """A stage: what it does, the sections of the recipe that it reads, and how it runs."""

    about: str
    sections: tuple[str, ...]
    run: Callable[[Recipe], None]


def _base(recipe: Recipe) -> None:
    from minicrit.base import prepare_base

    base = prepare_base(recipe.base.model, recipe.base.folder, recipe.base.revision)
    sys.stdout.write(f"{base.folder} {base.identity}\n")


def _import(recipe: Recipe) -> None:
    from data_gen.importing import import_sets

    import_sets(recipe)


def _data(recipe: Recipe) -> None:
    from data_gen.stage import make_data

    make_data(recipe)


def _probe(recipe: Recipe) -> None:
    from data_gen.probes import probe

    probe(recipe)


def _hard(recipe: Recipe) -> None:
    from data_gen.hard import make_hard

    make_hard(recipe)


def _verify(recipe: Recipe) -> None:
    from data_gen.verify import verify

    verify(recipe)


def _adversarial(recipe: Recipe) -> None:
    from data_gen.adversarial import make_adversarial

    make_adversarial(recipe)


def _pairs(recipe: Recipe) -> None:
    from data_gen.pairs import make_pairs

    make_pairs(recipe)


def _bench_candidates(recipe: Recipe) -> None:
    from data_gen.bench_candidates import bench_candidates

    bench_candidates(recipe)


def _data_report(recipe: Recipe) -> None:
    from data_gen.data_report import write_data_report

    write_data_report(recipe)


def _bench_filters(recipe: Recipe) -> None:
    from data_gen.bench_filters import bench_filters

    bench_filters(recipe)


def _bench_train(recipe: Recipe) -> None:
    from models.bench_train import bench_train

    bench_train(recipe)


def _sft(recipe: Recipe) -> None:
    from minicrit.train import train_sft

    train_sft(recipe)


def _dpo(recipe: Recipe) -> None:
    from data_gen.pairs import make_round
    from minicrit.rounds import run_dpo_rounds
    from minicrit.train import train_dpo

    run_dpo_rounds(recipe, make_round, train_dpo)


def _rsf(recipe: Recipe) -> None:
    from data_gen.rejection import check_selection, make_selection
    from minicrit.rounds import run_control, run_rounds
    from minicrit.train import train_rsf

    if recipe.rsf.control:
        run_control(recipe, check_selection, train_rsf)
    else:
        run_rounds(recipe, make_selection, train_rsf)


def _kto(recipe: Recipe) -> None:
    from minicrit.train import train_kto

    train_kto(recipe)


def _constitution(recipe: Recipe) -> None:
    from data_gen.constitution import improve
    from minicrit.train import train_dpo, train_rsf

    improve(recipe, {"dpo": train_dpo, "targets": train_rsf})


def _calibrate(recipe: Recipe) -> None:
    from minicrit.calibrate import calibrate

    calibrate(recipe)


def _benchmark(recipe: Recipe) -> None:
    from data_gen.backends.readout_server import check_models, judge_loader
    from minicrit.benchmark import benchmark

    check_models(recipe.benchmark)
    benchmark(recipe, load=judge_loader(recipe.base.folder))


def _seeds(recipe: Recipe) -> None:
    from minicrit.seeds import compare_seeds

    compare_seeds(recipe)


def _experiments(recipe: Recipe) -> None:
    from minicrit.experiments import experiments

    experiments(recipe)


def _judge(recipe: Recipe) -> None:
    from data_gen.backends.readout_server import check_models, judge_loader
    from data_gen.court.hearing import judge

    check_models(recipe.benchmark)
    judge(recipe, load=judge_loader(recipe.base.folder))


def _qualify(recipe: Recipe) -> None:
    from data_gen.court.qualification import qualify

    qualify(recipe)


def _explain(recipe: Recipe) -> None:
    from data_gen.explanations import explain

    explain(recipe)


def _errors(recipe: Recipe) -> None:
    from data_gen.errors import analyse_errors

    analyse_errors(recipe)


def _injections(recipe: Recipe) -> None:
    from data_gen.injection import measure_injections

    measure_injections(recipe)


def _average(recipe: Recipe) -> None:
    from minicrit.averaging import average

    sys.stdout.write(f"{average(recipe)}\n")


def _quantize(recipe: Recipe) -> None:
    from minicrit.quantize import quantize

    quantize(recipe)


def _speculative(recipe: Recipe) -> None:
    from minicrit.speculative import speculative

    speculative(recipe)


def _export(recipe: Recipe) -> None:
    from minicrit.export.stage import export

    export(recipe)


def _adapters(recipe: Recipe) -> None:
    from minicrit.adapters import make_adapters
    from minicrit.train import train_sft

    make_adapters(recipe, train_sft)


def _sharpe(recipe: Recipe) -> None:
    from minicrit.gating import sharpe

    sharpe(recipe)


def _sharpe_demo(recipe: Recipe) -> None:
    from data_gen.market.demo import make_demo

    make_demo(recipe)


def _agreement(recipe: Recipe) -> None:
    from minicrit.agreement import agreement

    agreement(recipe)


def _serve(recipe: Recipe) -> None:
    from minicrit.serving.serve import serve

    serve(recipe)


def _feedback_pairs(recipe: Recipe) -> None:
    from data_gen.feedback import make_feedback

    make_feedback(recipe)


def _ab(recipe: Recipe) -> None:
    from minicrit.feedback.ab import ab

    ab(recipe)


def _doctor(recipe: Recipe) -> None:
    from data_gen.backends.reachable import hub, ollama
    from minicrit.doctor import doctor

    doctor(recipe, {"Ollama": ollama, "hub": hub})


def _preflight(recipe: Recipe) -> None:
    from minicrit.preflight import preflight

    preflight(recipe)


def _runs(recipe: Recipe) -> None:
    from minicrit.runs import show_runs

    show_runs(recipe)


def _report(recipe: Recipe) -> None:
    from minicrit.report import write_report

    sys.stdout.write(f"{write_report(recipe)}\n")


STAGES = {
    "base": Stage("Make the base model ready; print its folder and identity.", ("base",), _base),
    "import": Stage("Bring public sets to the Example form.", ("imports",), _import),
    "data": Stage("Compose the examples and mix public sets in.", ("base", "data", "filters"),
                  _data),
    "hard": Stage("Make hard examples, offline or with a language model.",
                  ("base", "hard", "filters"),
                  _hard),
    "adversarial": Stage("Write the adversarial suite.", ("adversarial",), _adversarial),
    "pairs": Stage("Make preference pairs from a critic's own critiques.",
                   ("base", "pairs", "filters"), _pairs),
    "bench-candidates": Stage("Time candidates: shared prompts against one by one.",
                              ("base", "pairs"), _bench_candidates),
    "bench-filters": Stage("Time filters, duplicates and firewall on many rows.",
                           ("filters", "bench_filters"),
                           _bench_filters),
    "bench-train": Stage("Time training steps against TRL's, and their memory.",
                         ("base", "lora", "bench_train"), _bench_train),
    "probe": Stage("Ask whether words, length or source give the labels away.",
                   ("data", "probe"), _probe),
    "data-report": Stage("Write one page about the data and the pairs.",
                         ("data", "pairs", "benchmark"), _data_report),
    "sft": Stage("Train an adapter on the examples.", ("base", "data", "lora", "sft"), _sft),
    "dpo": Stage("Train the adapter on preference pairs, in rounds.",
                 ("base", "data", "lora", "dpo", "pairs", "filters"), _dpo),
    "rsf": Stage("Train the adapter on the best of its own critiques.",
                 ("base", "data", "lora", "rsf", "filters"), _rsf),
    "kto": Stage("Train the adapter on thumbs up and down.", ("base", "data", "lora", "kto"),
                 _kto),
    "constitution": Stage("Let the critic revise its critiques under the rules and learn.",
                          ("base", "data", "lora", "constitution", "dpo", "rsf", "filters"),
                          _constitution),
    "average": Stage("Average the weights of several critics into one.", ("average",), _average),
    "calibrate": Stage("Fit a critic's probabilities; certify its threshold.",
                       ("base", "calibrate"), _calibrate),
    "benchmark": Stage("Judge one or two critics.", ("base", "benchmark"), _benchmark),
    "judge": Stage("Let a language model compare the critiques of the benchmark's two models.",
                   ("base", "benchmark", "judge"), _judge),
    "seeds": Stage("Compare the ladders of several seeds.", ("seeds",), _seeds),
    "qualify": Stage("Examine a judge, a language model, on critiques of known quality.",
                     ("benchmark", "judge"), _qualify),
    "experiments": Stage("Try temperatures, prompts and reasoning against each other.",
                         ("base", "experiments"), _experiments),
    "explain": Stage("Check whole critiques against their references.", ("base", "explain"),
                     _explain),
    "errors": Stage("Say what a critic gets wrong, and why.", ("base", "errors"), _errors),
    "injections": Stage("Measure how often an appended text talks a critic into `valid`.",
                        ("base", "injections"), _injections),
    "quantize": Stage("Make a smaller critic; compare it with the float one.",
                      ("base", "quantize", "calibrate"), _quantize),
    "speculative": Stage("Measure writing with drafts: how fast, and whether the text is the same.",
                         ("base", "speculative"), _speculative),
    "export": Stage("Take a critic out: a merged folder, GGUF, Ollama or vLLM.",
                    ("base", "export"), _export),
    "adapters": Stage("Train a specialist a domain, route to them, measure each everywhere.",
                      ("base", "data", "lora", "sft", "calibrate", "adapters"), _adapters),
    "sharpe": Stage("Measure what the gate does to a book of trades.", ("base", "sharpe"),
                    _sharpe),
    "sharpe-demo": Stage("Make trades on real prices, with rationales of known label.",
                         ("sharpe_demo",), _sharpe_demo),
    "agreement": Stage("Compare the critic's verdicts with operators' decisions.",
                       ("base", "agreement"), _agreement),
    "serve": Stage("Answer over HTTP, with the operators' page.", ("base", "serve"), _serve),
    "feedback-pairs": Stage("Make examples and preference pairs of operators' decisions.",
                            ("feedback", "filters"), _feedback_pairs),
    "ab": Stage("Say how an experiment stands, or begin one; stop it by its rules.", ("ab",), _ab),
    "verify": Stage("Recompute every hash and run the firewall over everything.", ("verify",),
                    _verify),
    "runs": Stage("List all runs, or compare two.", ("runs",), _runs),
    "doctor": Stage("Check this machine: wheels, GPU, disk, keys, servers, base.",
                    ("base", "doctor"), _doctor),
    "preflight": Stage("Check all machines of a job: network, bandwidth, disks.",
                       ("preflight",), _preflight),
    "report": Stage("Write one page about a run.", ("data", "sft", "benchmark"), _report),
}  # fmt: skip
