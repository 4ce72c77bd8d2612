//! Colours and type, once for light, dark and paper; as variables on the page, written out in single figures.

/// Name, in light, in dark. Series colours keep their distance for readers who do not see red or green.
const COLOURS: [(&str, &str, &str); 13] = [
    ("paper", "#fffefb", "#15171a"),
    ("ink", "#1c1d1f", "#e6e4df"),
    ("muted", "#66686c", "#9fa1a5"),
    ("grid", "#e7e5df", "#2b2e33"),
    ("axis", "#9b9a95", "#5d6067"),
    ("c0", "#1f5f8b", "#6fb3e0"),
    ("c1", "#c0501f", "#f0935f"),
    ("c2", "#39804a", "#85c98f"),
    ("c3", "#7d4b9e", "#c39be3"),
    ("c4", "#6f6f6c", "#a9a9a5"),
    ("c5", "#a27a00", "#dfb643"),
    ("c6", "#2b8c93", "#6cc9cf"),
    ("c7", "#a83a5b", "#e88aa5"),
];

fn variables(dark: bool) -> String {
    COLOURS
        .iter()
        .map(|(name, light, night)| format!("--{name}:{};", if dark { night } else { light }))
        .collect()
}

/// The style of the page: light, dark where the reader asks for it, light again on paper.
pub fn page_style() -> String {
    format!(
        ":root{{color-scheme:light dark;{}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{}}}}}\n{PAGE}\n{}",
        variables(false),
        variables(true),
        figure_rules(|name| format!("var(--{name})"))
    )
}

/// The style a single figure carries along: no variables, which some viewers do not know.
pub fn figure_style() -> String {
    let rules = |dark: bool| {
        figure_rules(|name| {
            let colour = COLOURS
                .iter()
                .find(|colour| colour.0 == name)
                .map_or("#888", |colour| if dark { colour.2 } else { colour.1 });
            colour.to_string()
        })
    };
    format!("{}@media screen and (prefers-color-scheme:dark){{\n{}}}\n", rules(false), rules(true))
}

fn figure_rules(colour: impl Fn(&str) -> String) -> String {
    let mut css = format!(
        ".fig{{font:12px {SANS};font-variant-numeric:tabular-nums}}\n\
         .fig .back{{fill:{paper}}}\n\
         .fig text{{fill:{ink}}}\n\
         .fig .head{{font-weight:600;font-size:13px}}\n\
         .fig .soft{{fill:{muted};font-size:11px}}\n\
         .fig .halo{{stroke:{paper};stroke-width:3px;paint-order:stroke;stroke-linejoin:round}}\n\
         .fig .grid{{stroke:{grid};stroke-width:1}}\n\
         .fig .axis{{stroke:{axis};stroke-width:1}}\n\
         .fig .gap{{stroke:{paper};stroke-width:3}}\n\
         .fig .band{{stroke:none;opacity:.12}}\n\
         .fig .lead{{stroke:{axis};stroke-width:.8;fill:none}}\n\
         .fig .line{{fill:none;stroke-width:1.7;stroke-linejoin:round}}\n\
         .fig .bar{{stroke-width:1.3;opacity:.55}}\n\
         .fig .rule{{stroke-width:1.2;stroke-dasharray:5 4;opacity:.85}}\n\
         .fig .dot{{stroke:{paper};stroke-width:.8}}\n\
         .fig .fill{{stroke:{paper};stroke-width:1}}\n\
         .fig .blank{{fill:{paper}}}\n\
         .fig .cell{{stroke:{grid};stroke-width:1}}\n\
         .fig .cell.lot{{stroke:{ink};stroke-dasharray:3 3}}\n\
         .fig .on{{font-size:10px}}\n\
         .fig .on.dark{{fill:{paper}}}\n\
         .fig .thin{{stroke-width:1.1;stroke-dasharray:2 3}}\n",
        paper = colour("paper"),
        ink = colour("ink"),
        muted = colour("muted"),
        grid = colour("grid"),
        axis = colour("axis"),
    );
    for series in 0..8 {
        let own = colour(&format!("c{series}"));
        css += &format!(
            ".fig .line.s{series},.fig .bar.s{series},.fig .rule.s{series}{{stroke:{own}}}\n\
             .fig .dot.s{series},.fig .fill.s{series},.fig .band.s{series}{{fill:{own}}}\n.fig text.s{series}{{fill:{own}}}\n\
             .fig .open.s{series}{{fill:{paper};stroke:{own};stroke-width:1.5}}\n",
            paper = colour("paper")
        );
    }
    css
}

const SANS: &str = "system-ui,-apple-system,\"Segoe UI\",\"Helvetica Neue\",Arial,sans-serif";

const PAGE: &str = "*{box-sizing:border-box}
html{background:var(--paper);color:var(--ink);-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:68rem;padding:3.5rem 1.5rem 5rem;font:17px/1.55 Charter,\"Bitstream Charter\",\"Iowan Old Style\",Georgia,serif}
h1{font-size:2.1rem;line-height:1.2;font-weight:600;letter-spacing:-.01em;margin:0 0 .6rem;max-width:44rem;text-wrap:balance}
h2{font-size:1.35rem;line-height:1.3;font-weight:600;margin:3.6rem 0 .4rem;max-width:44rem}
h3{font-size:1.02rem;font-weight:600;margin:1.6rem 0 .3rem}
p,ul,dl{max-width:42rem;margin:.5rem 0 .8rem}
li{margin:.2rem 0}
.lede{color:var(--muted);font-size:1.08rem}
.answers{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:0 3rem;margin-top:1rem}
figure{margin:1rem 0 0}
.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr));gap:1.6rem 2.2rem}
.panels svg{display:block;width:100%;height:auto;max-width:36rem;overflow:visible}
figcaption{max-width:42rem;margin-top:.9rem;font-size:.92rem;color:var(--muted)}
figcaption a,p a{color:inherit}
details{margin:.6rem 0;font-size:.92rem}
summary{cursor:pointer;color:var(--muted)}
.scroll{overflow-x:auto;margin:.6rem 0 1.2rem}
table{border-collapse:collapse;font:13px/1.4 system-ui,-apple-system,\"Segoe UI\",\"Helvetica Neue\",Arial,sans-serif;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:.3rem 0}
th,td{padding:.28rem .75rem .28rem 0;text-align:right;white-space:nowrap;vertical-align:baseline}
th{font-weight:600;border-bottom:1px solid var(--axis)}
td{border-bottom:1px solid var(--grid)}
th:first-child,td:first-child,.l{text-align:left}
td small{color:var(--muted);font-size:11px}
td.wrap{white-space:normal;min-width:16rem}
tr.best td{font-weight:600}
tr.none td{border-bottom-color:var(--axis)}
code{font:.86em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
dt{font-weight:600;margin-top:.7rem}
dd{margin:0 0 .2rem}
footer{margin-top:4rem;color:var(--muted);font-size:.9rem}
@media (max-width:40rem){body{padding:2rem 1.1rem 3rem;font-size:16px}h1{font-size:1.6rem}}
@media print{body{max-width:none;padding:0;font-size:10.5pt}figure,tr{break-inside:avoid}h2,h3{break-after:avoid}.panels{grid-template-columns:1fr 1fr}.scroll{overflow:visible}details{display:none}}";
