"""Log lines: one event, one line, with its fields."""

from __future__ import annotations

import io
import json
import logging

import pytest

from meshkube import log


@pytest.fixture
def _kept_root():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(format: log.LogFormat) -> str:
    stream = io.StringIO()
    log.set_up(format, stream=stream)
    logger = logging.getLogger("meshkube.node.agent")
    logger.info("pod started", extra={"pod": "default/web", "reason": 'a "b"\nc'})
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("failed")
    return stream.getvalue()


@pytest.mark.usefixtures("_kept_root")
def test_text_lines_hold_the_fields_quoted_where_needed():
    lines = logged("text").splitlines()
    assert lines[0].endswith('INFO node.agent: pod started pod=default/web reason="a \\"b\\"\\nc"')
    assert lines[-1] == "ValueError: no"


@pytest.mark.usefixtures("_kept_root")
def test_json_lines_hold_one_object_each():
    first, second = (json.loads(line) for line in logged("json").splitlines())
    assert first["message"] == "pod started"
    assert first["pod"] == "default/web"
    assert second["level"] == "error"
    assert second["traceback"].endswith("ValueError: no\n")
