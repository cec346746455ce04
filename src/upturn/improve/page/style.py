"""CSS of a page: system fonts, a palette that every eye can tell apart, light, dark and paper."""

# Okabe & Ito (2008), darkened for light ground and lightened for dark so that each line has a
# contrast of 3:1 at least (WCAG 2.2, 1.4.11).
_LIGHT = (
    "--bg:#fff;--fg:#1b2430;--dim:#5b6675;--faint:#e4e8ee;--card:#f6f8fa;--grid:#e8ecf1;"
    "--good:#00714f;--warning:#8f5200;--critical:#b3261e;"
    "--c0:#0069a8;--c1:#c14f00;--c2:#00805c;--c3:#a54c82;--c4:#8a6100;--c5:#5b6675;"
    "--h0:#eef2f6;--h1:#cfe3f2;--h2:#93c3e3;--h3:#f2c078;--h4:#b85a12;--h5:#7d2408;--ki:#16202b;--ko:#fff"
)
_DARK = (
    "--bg:#12171d;--fg:#e4e9ef;--dim:#9aa6b4;--faint:#2a323c;--card:#1a2129;--grid:#27303a;"
    "--good:#4fd1a1;--warning:#f0b357;--critical:#ff8a80;"
    "--c0:#62b5f5;--c1:#ff9d5c;--c2:#45cda0;--c3:#e79ccb;--c4:#e3b95a;--c5:#9aa6b4;"
    "--h0:#1e262f;--h1:#20435d;--h2:#2f74a3;--h3:#a87524;--h4:#d9822f;--h5:#ffb38a;--ki:#fff;--ko:#16202b"
)
_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:960px;margin:0 auto;padding:32px 20px 64px}
header{border-bottom:1px solid var(--faint);padding-bottom:16px}
h1{font-size:26px;line-height:1.2;margin:0;letter-spacing:-.01em}
h2{font-size:19px;margin:0 0 4px;letter-spacing:-.005em}
h3{font-size:15px;margin:20px 0 4px}
.sub,.lead,figcaption,caption,small,.note{color:var(--dim)}
.sub{margin:4px 0 0}.lead{margin:0 0 12px}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin-top:12px;font-size:14px}
a{color:var(--c0);text-decoration:none}a:hover{text-decoration:underline}
section{padding-top:28px}
p{margin:8px 0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;margin:8px 0}
caption{text-align:left;padding-bottom:4px}
th,td{text-align:left;padding:5px 12px 5px 0;border-bottom:1px solid var(--faint);
vertical-align:top}
th{font-weight:600;color:var(--dim);white-space:nowrap}
td:first-child{overflow-wrap:anywhere}
time{white-space:nowrap}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
th:last-child,td:last-child{padding-right:0}
.note{border-left:3px solid var(--faint);padding:2px 0 2px 12px;font-size:14px}
.note.good{border-color:var(--good)}.note.warning{border-color:var(--warning);color:var(--fg)}
.note.critical{border-color:var(--critical);color:var(--fg)}
.badge{display:inline-block;font-size:12px;font-weight:600;line-height:18px;padding:0 8px;
border-radius:9px;border:1px solid currentColor;color:var(--dim);white-space:nowrap}
.badge.good{color:var(--good)}.badge.warning{color:var(--warning)}
.badge.critical{color:var(--critical)}
code{font:13px/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--card);
padding:1px 5px;border-radius:4px;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;
margin:16px 0}
.tiles div{background:var(--card);border-radius:8px;padding:10px 14px}
.tiles dt{color:var(--dim);font-size:13px}
.tiles dd{margin:0;font-size:22px;font-weight:600;font-variant-numeric:tabular-nums;
line-height:1.3}
.tiles small{display:block;font-size:12.5px;font-weight:400}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(270px,1fr));gap:16px 24px}
.grid figure{margin:0}
figure{margin:12px 0}figcaption{font-size:13px;margin-top:2px}
details{margin:12px 0}summary{cursor:pointer;color:var(--c0)}
svg{display:block;width:100%;height:auto;font:11.5px system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums}
svg:not(.wide){max-width:420px}svg.spark{width:110px}
svg text{fill:var(--dim)}svg .t{fill:var(--fg)}svg .h{fill:var(--fg);font-weight:600;font-size:13px}
svg .m{text-anchor:middle}svg .e{text-anchor:end}
svg .g{stroke:var(--grid);fill:none}svg .x{stroke:var(--dim);fill:none}
svg .r{stroke:var(--dim);stroke-dasharray:4 3;fill:none}
svg .l{stroke:var(--c);stroke-width:2;fill:none;stroke-linejoin:round;stroke-linecap:round}
svg .d{stroke-dasharray:6 4}svg .o{stroke-dasharray:1.5 4}
svg .b{fill:var(--c);opacity:.16}svg .f{fill:var(--c)}svg .s{fill:var(--c);opacity:.1}
svg .k1,svg .k2,svg .k3{fill:var(--ki)}svg .k4,svg .k5{fill:var(--ko)}
svg .w{stroke:var(--c);stroke-width:2;fill:none}
""" + "".join(f".c{i}{{--c:var(--c{i})}}.h{i}{{fill:var(--h{i})}}" for i in range(6))
_WIDE = """
@media(max-width:640px){main{padding:20px 14px 40px}h1{font-size:22px}
.scroll>svg.wide{width:680px}}
@media print{main{max-width:none;padding:0}nav{display:none}section,figure,tr{break-inside:avoid}
body{font-size:11pt}.scroll{overflow:visible}details>*{display:block}}
"""
CSS = (
    f":root{{color-scheme:light dark;{_LIGHT}}}"
    f"@media(prefers-color-scheme:dark){{:root{{{_DARK}}}}}"
    f"@media print{{:root{{{_LIGHT}}}}}" + _RULES.replace("\n", "") + _WIDE.replace("\n", "")
)
