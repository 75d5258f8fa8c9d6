import base64
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from vla_policy.errors import VlaError
from vla_rl_trainer.report import (
    Chart,
    Charts,
    Facts,
    Paragraph,
    Rate,
    ReportData,
    Section,
    Table,
    Video,
    Videos,
    charts_of,
    write_report,
)
from vla_rl_trainer.video import encode_mp4

MP4 = encode_mp4(np.zeros((2, 16, 16, 3), np.uint8), fps=25)
METRICS = [{"step": step, "success": step / 10, "entropy": 2.0, "approx_kl": None} for step in range(10)]
PAGE = ReportData(
    title="click_bell <script>",
    subtitle="20 demonstrations & GRPO",
    sections=[
        Section("Result", [Table(["stage", "rate", "episodes"], [["SFT", Rate(45, 100), 100]], "held-out")]),
        Section("Training", [charts_of(METRICS, {"success": True, "entropy": False, "approx_kl": False})]),
        Section("Two", [Charts([Chart("both", {"greedy": [(0, 1)], "sampled": [(0, 2)]})]), Paragraph("a < b")]),
        Section("Before and after", [Videos([Video("before", MP4), Video('after "it"', MP4)])]),
        Section("Facts", [Facts({"grpo": {"clip": [0.8, 1.28]}}), Facts({"seed": 0}, folded_under="more")]),
    ],
)


class Checker(HTMLParser):
    """Collects what a page refers to, and checks that tags close in order."""

    VOID = frozenset({"meta"})

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.tags = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def page(tmp_path):
    write_report(tmp_path / "report.html", PAGE)
    return (tmp_path / "report.html").read_text()


def test_the_page_is_well_formed_and_asks_for_nothing_from_outside(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert all(source.startswith("data:video/mp4;base64,") for source in checker.sources)
    assert not {"script", "link", "img", "iframe"} & set(checker.tags)
    assert not re.search(r"url\(|@import|https?://", page)


def test_text_from_outside_is_escaped(page):
    assert "<title>click_bell &lt;script&gt;</title>" in page
    assert "20 demonstrations &amp; GRPO" in page
    assert "after &quot;it&quot;" in page


def test_a_rate_is_shown_with_its_wilson_interval(page):
    assert "45.0 %" in page
    assert "35.6 – 54.8 %" in page
    assert "no episodes" in Rate(0, 0).html()


def test_videos_are_embedded_whole(page):
    encoded = re.findall(r"base64,([^\"]+)", page)
    assert [base64.b64decode(data) for data in encoded] == [MP4, MP4]


def test_only_metrics_that_were_logged_get_a_chart():
    titles = [chart.title for chart in charts_of(METRICS, {"success": True, "approx_kl": False, "never": False}).charts]
    assert titles == ["success"]


def test_several_lines_get_a_legend_and_one_its_last_value(page):
    assert page.count('<div class="legend">') == 1
    assert "<small>last 90.0 %</small>" in page


def test_nested_facts_have_dotted_names(page):
    assert "<dt>grpo.clip</dt><dd>[0.8, 1.28]</dd>" in page
    assert "<summary>more</summary>" in page


def test_a_full_disk_keeps_the_older_page(tmp_path, monkeypatch):
    write_report(tmp_path / "report.html", PAGE)
    before = (tmp_path / "report.html").read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VlaError, match=r"report\.html: the disk is full"):
        write_report(tmp_path / "report.html", PAGE)
    assert (tmp_path / "report.html").read_bytes() == before
