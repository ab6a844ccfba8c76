from .benchmark import write_benchmark as write_benchmark
from .benchmark_scores import score_benchmark as score_benchmark
from .learning_curve.run import measure_learning_curve as measure_learning_curve
from .methods import (
    Answer as Answer,
    ComparedMethod as ComparedMethod,
    Fit as Fit,
    FittedModel as FittedModel,
    Training as Training,
    register as register,
)
from .request import BenchmarkSettings as BenchmarkSettings, ValidationRequest as ValidationRequest
from .run import validate as validate
from .simulated import SimulatedData as SimulatedData, simulate_data as simulate_data
