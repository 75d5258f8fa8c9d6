"""The frame of a report page: calm, light or dark as the reader's system is, nothing loaded from elsewhere."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfaf8; --card: #ffffff; --text: #1d1d1f; --soft: #65656b; --line: #e4e2dd; --grid: #eeece7;
  --c0: #2563a8; --c1: #c2571a; --c2: #2c7d55; --c3: #8a4fa3; --c4: #a6324e; --track: #ebe9e4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #16171a; --card: #1e2024; --text: #ececee; --soft: #9b9ca3; --line: #32353b; --grid: #2a2d32;
    --c0: #6ea8e8; --c1: #ee9a5f; --c2: #6cc79a; --c3: #c596dd; --c4: #ee8098; --track: #30333a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 1080px; margin: 0 auto; padding: 48px 24px 72px; }
h1 { font-size: 30px; line-height: 1.2; font-weight: 650; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 19px; font-weight: 620; margin: 44px 0 14px; }
p { margin: 0 0 12px; max-width: 72ch; }
.subtitle { color: var(--soft); margin-bottom: 28px; }
.card, figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.card { padding: 6px 18px; overflow-x: auto; }
.card:has(table) { width: fit-content; max-width: 100%; }
.card + .card, p + .card, .card + p { margin-top: 14px; }
table { border-collapse: collapse; min-width: 55%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 9px 32px 9px 0; border-top: 1px solid var(--line); vertical-align: middle; }
th:last-child, td:last-child { padding-right: 0; }
thead th { border-top: 0; color: var(--soft); font-weight: 500; font-size: 13.5px; white-space: nowrap; }
td.number, th.number { text-align: right; }
caption { caption-side: bottom; text-align: left; color: var(--soft); font-size: 13.5px; padding: 8px 0 6px; }
.rate { display: flex; align-items: center; gap: 14px; }
.rate b { min-width: 62px; font-weight: 620; }
.rate span { color: var(--soft); font-size: 13.5px; white-space: nowrap; }
.rate svg { width: 260px; height: 22px; flex: none; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 14px; }
figure { margin: 0; padding: 14px 16px 10px; }
figcaption { font-size: 14px; font-weight: 560; }
figcaption small { color: var(--soft); font-weight: 400; font-size: 13px; float: right; }
.legend { color: var(--soft); font-size: 13px; margin-top: 2px; }
.legend i { display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin: 0 6px 3px 0; }
.legend span { margin-right: 14px; }
figure svg { width: 100%; height: auto; display: block; margin-top: 6px; }
svg text { fill: var(--soft); font: 11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.videos { display: grid; gap: 14px; }
.videos video { width: 100%; display: block; border-radius: 6px; background: #000; margin-top: 10px; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 0 28px; font-size: 14.5px; margin: 6px 0; }
.facts dt { color: var(--soft); padding: 4px 0; }
.facts dd { margin: 0; padding: 4px 0; overflow-wrap: anywhere; }
.facts dd { font: 13.5px/1.6 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
details summary { cursor: pointer; color: var(--soft); padding: 6px 0; font-size: 14.5px; }
@media (max-width: 640px) { .videos { grid-template-columns: 1fr !important; } main { padding: 28px 16px; } }
@media print { body { background: #fff; } figure, .card { break-inside: avoid; } }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; media-src data:; img-src data:">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="subtitle">{subtitle}</p>
{body}
</main>
</body>
</html>
"""
