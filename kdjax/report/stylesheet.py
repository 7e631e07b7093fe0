"""The stylesheet of a report: light and dark, wide, on a phone, on paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #24292f; --quiet: #656d76; --line: #d8dee4; --card: #fff;
  --back: #f4f6f8; --strong: #2f5d9b; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --quiet: #9aa4af;
  --line: #373e47; --card: #1c2128; --back: #12161b; --strong: #8fb6e8; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.55 system-ui, sans-serif;
  overflow-wrap: break-word; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 56px; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .4em; }
h2 { font-size: 1.2rem; margin: 2em 0 .7em; }
p { margin: 0 0 .7em; }
.lead { max-width: 46em; font-size: 1.06rem; }
.note, figcaption { color: var(--quiet); font-size: .88rem; }
.trouble { border-left: 3px solid #c2571a; padding-left: 10px; font-size: .95rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(104px, 1fr)); gap: 8px;
  margin: 20px 0 0; }
.facts div, figure, .scroll, details { background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; }
.facts div { padding: 8px 12px; }
.facts dt { color: var(--quiet); font-size: .8rem; }
.facts dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
  gap: 16px; align-items: start; grid-auto-flow: dense; }
figure { margin: 0; padding: 12px; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figure h3 { font-size: 1rem; margin: 0 0 8px; }
.picture { overflow-x: auto; }
.picture svg { display: block; width: 100%; height: auto; }
figcaption { margin-top: 8px; }
.scroll { overflow-x: auto; margin-bottom: 10px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 12px; text-align: right; white-space: nowrap; }
th { color: var(--quiet); font-weight: 600; font-size: .85rem; }
.results th:nth-child(-n+2), .results td:nth-child(-n+2) { text-align: left; }
.results td:first-child { font-weight: 600; white-space: normal; }
tr.first td { border-top: 1px solid var(--line); }
tr.own td { color: var(--strong); }
details { padding: 10px 14px; margin-bottom: 10px; }
summary { cursor: pointer; font-weight: 600; }
.pairs td { text-align: left; white-space: normal; vertical-align: top; padding: 3px 8px 3px 0;
  border-top: 1px solid var(--line); font: .84rem/1.5 ui-monospace, monospace; }
.pairs td { overflow-wrap: anywhere; }
.pairs td:first-child { color: var(--quiet); width: 42%; }
.pairs { margin-top: 8px; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px;
  overflow-x: auto; font: .84rem/1.6 ui-monospace, monospace; margin: 0 0 10px; }
@media (max-width: 560px) {
  h1 { font-size: 1.45rem; }
  figure { padding: 10px 6px; }
  figure h3, figcaption { padding: 0 6px; }
  .wide svg { width: 720px; }
  .results thead { display: none; }
  .results, .results tbody { display: block; }
  .results tr { display: grid; grid-template-columns: repeat(4, 1fr); gap: 0 8px;
    padding: 6px 12px; }
  .results tr.first { border-top: 1px solid var(--line); }
  .results td, .results tr.first td { border: 0; padding: 0; text-align: left; font-size: .86rem; }
  .results td:empty { display: none; }
  .results td:nth-child(-n+2) { grid-column: 1 / -1; }
  .results td:nth-child(2) { font-weight: 600; }
  .results td:first-child { font-size: 1rem; }
  .results td:nth-child(n+3)::before { content: attr(data-name); display: block;
    color: var(--quiet); font-size: .74rem; line-height: 1.3; }
}
@media print {
  body { background: #fff; font-size: 11pt; }
  main { max-width: none; padding: 0; }
  .figures { grid-template-columns: 1fr 1fr; gap: 8px; }
  figure, tr, .facts div { break-inside: avoid; }
  h2 { break-after: avoid; }
  pre { white-space: pre-wrap; }
}
"""
