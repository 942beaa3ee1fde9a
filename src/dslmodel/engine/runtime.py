"""Builds everything, and holds the one default runtime of this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from dslmodel.detect import DETECTORS
from dslmodel.detect.detection import Detection, DetectionOptions
from dslmodel.engine.in_process import InProcess
from dslmodel.engine.pipeline import Pipeline, Readers
from dslmodel.ingest.resources import log_counts, resource_samples
from dslmodel.ingest.spans import AttributeLimits, decode_spans
from dslmodel.ingest.times import parse_time
from dslmodel.settings import Settings, load_settings
from dslmodel.windows.aggregate import AggregatorLimits, ReferenceAggregator

_default: InProcess | None = None


def build_pipeline(settings: Settings) -> Pipeline:
    """A pipeline with nothing learnt."""
    limits = settings.limits
    aggregator = ReferenceAggregator(
        partial(decode_spans, limits=AttributeLimits(most=limits.attributes, longest=limits.attribute_bytes)),
        AggregatorLimits(
            series=limits.series,
            operations_per_service=limits.operations_per_service,
            span_cache=limits.span_cache,
            late_seconds=limits.late_seconds,
            settle_seconds=limits.settle_seconds,
        ),
    )
    detection = settings.detection
    options = DetectionOptions(
        min_spans=detection.min_spans,
        min_seconds=detection.min_seconds,
        settle_seconds=limits.settle_seconds,
        retention_hours=detection.retention_hours,
        max_findings=detection.max_findings,
    )
    readers = Readers(resource_samples=resource_samples, log_counts=log_counts)
    return Pipeline(aggregator=aggregator, detection=Detection(DETECTORS, options, parse_time), readers=readers, settings=settings)


def default_runtime() -> InProcess:
    """This process's runtime, built from its environment and files at the first call. Starts nothing."""
    global _default  # noqa: PLW0603  # the one global, by design
    if _default is None:
        _default = InProcess(build_pipeline, load_settings())
    return _default


@contextmanager
def use_runtime(runtime: InProcess) -> Iterator[InProcess]:
    """Make `runtime` the default within the block; what was there before is back after it."""
    global _default  # noqa: PLW0603  # the one global, by design
    before, _default = _default, runtime
    try:
        yield runtime
    finally:
        _default = before
