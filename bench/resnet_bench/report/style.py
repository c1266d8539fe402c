"""The page's style sheet."""

STYLESHEET = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem clamp(0.8rem, 3vw, 2.5rem) 3rem; color: var(--ink); background: var(--back);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; }
h2 { margin: 2.2rem 0 0.4rem; font-size: 1.15rem; }
.subtitle { margin: 0.2rem 0 1rem; opacity: 0.75; }
.warning { margin: 0.4rem 0; padding: 0.4rem 0.8rem; border-left: 4px solid var(--part1);
  background: color-mix(in srgb, var(--part1) 12%, transparent); }
.findings { padding-left: 1.2rem; max-width: 52rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1.4rem; }
.plots section { border: 1px solid var(--quiet); border-radius: 0.6rem; padding: 0.8rem 1rem; min-width: 0; }
.plots h2 { margin: 0 0 0.5rem; }
.plots p { margin: 0.5rem 0 0; font-size: 0.9rem; max-width: 40rem; }
.plots svg { display: block; width: 100%; max-width: 40rem; height: auto; }
.plots svg [id^="halo"] text { paint-order: stroke; stroke: var(--back); stroke-width: 3.5px; stroke-linejoin: round; }
.absent { padding: 2rem 1rem; text-align: center; border: 1px dashed var(--quiet); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.8rem 0.3rem 0; text-align: right; white-space: nowrap; vertical-align: top;
  border-bottom: 1px solid var(--quiet); }
th:first-child, td:first-child { text-align: left; font-weight: 600; position: sticky; left: 0; background: var(--back); }
h2 ~ h2 + .scroll td, h2 ~ h2 + .scroll th { text-align: left; }
h2 ~ h2 + .scroll:last-child td + td { white-space: normal; overflow-wrap: anywhere; }
@media print { .plots section { break-inside: avoid; } }
"""
