"""What a model has answered so far, over all workers, as Triton counts it."""

import msgspec

from service.runtime.metrics import Totals

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
    compute_output: Duration
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
    """Of all versions that are asked for."""

    model_stats: list[ModelStatistics]


def statistics(name: str, number: int, totals: Totals) -> ModelStatistics:
    """What a version has answered."""
    images, answered, seconds = totals.images, totals.answered, totals.phases

    def duration(phase: str = "") -> Duration:
        """Pixels are not decoded; perf_analyzer wants one count, whatever was done."""
        return Duration(answered, int(seconds.get(phase, 0) * _NANOSECONDS))

    stats = InferenceStatistics(
        success=Duration(totals.answered, int(sum(seconds.values()) * _NANOSECONDS)),
        fail=Duration(totals.refused),
        queue=duration("wait"),
        compute_input=duration("decode"),
        compute_infer=duration("inference"),
        compute_output=duration(),
    )
    return ModelStatistics(name, str(number), 0, images, answered, stats)
