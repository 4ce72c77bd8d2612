//! The few marks a figure is made of, as SVG text: escaped, with fixed digits, coloured by class.

use std::fmt::Write;

/// Characters that mean something to XML, made harmless.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Where a text is held.
#[derive(Clone, Copy)]
pub enum Anchor {
    /// At its beginning.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

/// A drawing being written.
#[derive(Default)]
pub struct Svg {
    body: String,
}

impl Svg {
    /// Everything drawn so far.
    pub fn into_body(self) -> String {
        self.body
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let _ = writeln!(
            self.body,
            r#"<line class="{class}" x1="{x1:.2}" y1="{y1:.2}" x2="{x2:.2}" y2="{y2:.2}"/>"#
        );
    }

    /// A straight line that says something when pointed at; `data` are attributes.
    pub fn rule(&mut self, class: &str, ends: ((f64, f64), (f64, f64)), data: &str, title: &str) {
        let ((x1, y1), (x2, y2)) = ends;
        let _ = writeln!(
            self.body,
            r#"<line class="{class}" x1="{x1:.2}" y1="{y1:.2}" x2="{x2:.2}" y2="{y2:.2}"{data}><title>{}</title></line>"#,
            escape(title)
        );
    }

    /// A line through points; nothing for fewer than two.
    pub fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        if points.len() < 2 {
            return;
        }
        let mut d = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let _ = write!(d, "{}{x:.2} {y:.2}", if index == 0 { "M" } else { " L" });
        }
        let _ = writeln!(self.body, r#"<path class="{class}" d="{d}"/>"#);
    }

    /// A text on its baseline.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = writeln!(
            self.body,
            r#"<text class="{class}" x="{x:.2}" y="{y:.2}" text-anchor="{anchor}">{}</text>"#,
            escape(text)
        );
    }

    /// A rectangle from its upper left corner; `title` is shown when pointed at, `data` are attributes.
    pub fn rect(
        &mut self,
        class: &str,
        (x, y): (f64, f64),
        (wide, high): (f64, f64),
        data: &str,
        title: &str,
    ) {
        let title =
            if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) };
        let _ = writeln!(
            self.body,
            r#"<rect class="{class}" x="{x:.2}" y="{y:.2}" width="{wide:.2}" height="{high:.2}"{data}>{title}</rect>"#
        );
    }

    /// The mark of series `style` at a place; `title` is shown when pointed at, `data` are attributes.
    pub fn mark(&mut self, style: usize, (x, y): (f64, f64), data: &str, title: &str) {
        let (shape, open) = SHAPES[style % SHAPES.len()];
        let mut d = String::new();
        for (index, (dx, dy)) in shape.iter().enumerate() {
            let _ =
                write!(d, "{}{:.2} {:.2}", if index == 0 { "M" } else { " L" }, x + dx * MARK, y + dy * MARK);
        }
        let class = if open { "dot open" } else { "dot" };
        let class = format!("{class} s{}", style % SHAPES.len());
        let title =
            if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) };
        let _ = if shape.is_empty() {
            writeln!(
                self.body,
                r#"<circle class="{class}" cx="{x:.2}" cy="{y:.2}" r="{MARK:.2}"{data}>{title}</circle>"#
            )
        } else {
            writeln!(self.body, r#"<path class="{class}" d="{d} Z"{data}>{title}</path>"#)
        };
    }
}

/// Half the width of a mark, in pixels.
const MARK: f64 = 3.4;

/// Series differ by shape as well as by colour. An empty outline is a circle; `true` is drawn hollow.
const SHAPES: [(&[(f64, f64)], bool); 8] = [
    (&[], false),
    (&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)], false),
    (&[(0.0, -1.25), (1.15, 0.85), (-1.15, 0.85)], false),
    (&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)], false),
    (&[], true),
    (&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)], true),
    (&[(0.0, 1.25), (1.15, -0.85), (-1.15, -0.85)], true),
    (&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)], true),
];

/// About how wide `text` is at `size` pixels, in the sans-serif of the figures.
pub fn width(text: &str, size: f64) -> f64 {
    let units: f64 = text
        .chars()
        .map(|character| match character {
            'i' | 'l' | 'j' | 't' | 'f' | 'r' | 'I' | '.' | ',' | ':' | ' ' | '·' | '\'' => 0.32,
            'm' | 'w' | 'M' | 'W' | '%' => 0.88,
            'A'..='Z' => 0.68,
            '0'..='9' => 0.56,
            _ => 0.55,
        })
        .sum();
    units * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_text() {
        assert_eq!(escape(r#"<a b="c">&'"#), "&lt;a b=&quot;c&quot;&gt;&amp;&#39;");
        let mut svg = Svg::default();
        svg.text("t", (0.0, 0.0), Anchor::Start, "<script>");
        assert!(!svg.into_body().contains("<script"));
    }
}
