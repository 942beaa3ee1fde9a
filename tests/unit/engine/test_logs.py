"""Logs: JSON lines with trace ids for machines, words for people, the documented LOGURU_FORMAT included."""

import io
import json
import logging

import pytest
from loguru import logger
from opentelemetry.sdk.trace import TracerProvider

from dslmodel.engine.logs import configure_logging
from dslmodel.errors import ConfigurationError
from dslmodel.settings import LogSettings, log_settings

DOCUMENTED_FORMAT = '{"time":"{time:YYYY-MM-DD HH:mm:ss}","level":"{level}","message":"{message}"}'


@pytest.fixture
def stream():
    handlers, level = logging.root.handlers[:], logging.root.level
    logging.root.handlers = []
    yield io.StringIO()
    logger.remove()
    logging.root.handlers = handlers
    logging.root.setLevel(level)


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_documented_format_is_taken_as_json_lines_and_said_once(stream):
    configure_logging(log_settings({"LOGURU_FORMAT": DOCUMENTED_FORMAT}), stream=stream)
    logger.bind(service="web").info("a {} b", 1)
    notice, line = lines(stream)
    assert "JSON lines" in notice["message"]
    assert (line["level"], line["message"], line["service"]) == ("INFO", "a 1 b", "web")


def test_json_lines_carry_the_active_span(stream):
    configure_logging(LogSettings(json_lines=True), stream=stream)
    with TracerProvider().get_tracer("t").start_as_current_span("s") as span:
        logger.info("inside")
    logger.info("outside")
    inside, outside = lines(stream)
    assert inside["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert inside["span_id"] == f"{span.get_span_context().span_id:016x}"
    assert "trace_id" not in outside


def test_an_error_is_one_line_with_its_traceback(stream):
    configure_logging(LogSettings(), stream=stream)
    try:
        int("a\nb")
    except ValueError:
        logger.exception("failed")
    (line,) = lines(stream)
    assert "Traceback" in line["exception"]
    assert "ValueError: invalid literal" in line["exception"]


def test_warnings_of_other_libraries_come_through_under_their_names(stream):
    configure_logging(LogSettings(json_lines=True), stream=stream)
    logging.getLogger("other.library").warning("look {here} %s", 1)
    logging.getLogger("other.library").info("not this")
    (line,) = lines(stream)
    assert (line["logger"], line["level"], line["message"]) == ("other.library", "WARNING", "look {here} 1")


def test_people_get_words_and_an_own_format_is_kept(stream):
    configure_logging(LogSettings(json_lines=False), stream=stream, colour=False)
    logger.warning("careful")
    assert stream.getvalue().endswith("WARNING  careful\n")
    configure_logging(log_settings({"LOGURU_FORMAT": "{level}|{message}"}), stream=stream)
    logger.info("mine")
    assert stream.getvalue().endswith("\nINFO|mine\n")


def test_level_comes_from_the_variable_and_verbose_lowers_it(stream):
    configure_logging(log_settings({"LOGURU_LEVEL": "ERROR"}), stream=stream)
    logger.warning("hidden")
    assert not stream.getvalue()
    assert log_settings({"LOGURU_LEVEL": "ERROR"}, verbose=True).level == "DEBUG"
    assert log_settings({"LOGURU_LEVEL": "TRACE"}, verbose=True).level == "TRACE"
    assert log_settings({}).level == "INFO"


def test_a_level_that_does_not_exist_is_named():
    with pytest.raises(ConfigurationError, match="LOGURU_LEVEL=loud: must be one of TRACE, DEBUG"):
        log_settings({"LOGURU_LEVEL": "loud"})
