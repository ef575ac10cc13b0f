"""What a model has answered so far, over all workers, as Triton counts it."""

import msgspec

from service.runtime.metrics import Totals
from service.serving.models import VERSION

_NANOSECONDS = 1_000_000_000


class Duration(msgspec.Struct, frozen=True):
    """How often something was done, and the nanoseconds that it took in all."""

    count: int = 0
    ns: int = 0


class InferenceStatistics(msgspec.Struct, frozen=True):
    """Requests for predictions by their end, and the time of the answered ones by its use."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration = Duration()
    cache_hit: Duration = Duration()
    cache_miss: Duration = Duration()


class ModelStatistics(msgspec.Struct, frozen=True):
    """Of a model; ``inference_count`` is of images, ``execution_count`` of requests.

    When the last one was is not known over all workers.
    """

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferenceStatistics
    batch_stats: tuple[()] = ()


class StatisticsAnswer(msgspec.Struct, frozen=True):
    """Of all models: there is one."""

    model_stats: tuple[ModelStatistics]


def statistics(name: str, totals: Totals) -> StatisticsAnswer:
    """What the model of this name has answered."""
    phases = {phase: _duration(totals, phase) for phase in ("wait", "decode", "inference")}
    stats = InferenceStatistics(
        success=Duration(totals.answered, sum(duration.ns for duration in phases.values())),
        fail=Duration(totals.refused),
        queue=phases["wait"],
        compute_input=phases["decode"],
        compute_infer=phases["inference"],
    )
    model = ModelStatistics(name, VERSION, 0, totals.images, phases["inference"].count, stats)
    return StatisticsAnswer((model,))


def _duration(totals: Totals, phase: str) -> Duration:
    times, seconds = totals.phases.get(phase, (0, 0.0))
    return Duration(times, int(seconds * _NANOSECONDS))
