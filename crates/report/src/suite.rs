//! `Suite`: a benchmark as the report shows it: its name in print, which metric stands for it, what it asks of
//! a model.

/// What a benchmark asks of a model; the paper reports the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Choosing the right answer.
    Reasoning,
    /// Continuing text.
    Language,
}

/// A benchmark with the metric that stands for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Suite {
    /// As in the tables.
    pub name: String,
    /// As printed.
    pub title: String,
    /// What it asks.
    pub class: Class,
    /// The metric that stands for it in figures.
    pub metric: String,
    /// Accuracy of blind guessing, where the task is known.
    pub guessing: Option<f64>,
}

/// The five benchmarks the study asks for, by the start of their names in the tables.
pub const EXPECTED: [(&str, &str); 5] = [
    ("lambada", "LAMBADA"),
    ("hellaswag", "HellaSwag"),
    ("wikitext", "WikiText"),
    ("arc_easy", "ARC-Easy"),
    ("piqa", "PIQA"),
];

/// Metrics that can stand for a suite, the best first.
const HEADLINES: [&str; 6] =
    ["acc", "acc_norm", "word_perplexity", "byte_perplexity", "perplexity", "bits_per_byte"];

impl Suite {
    /// The suite `name`, of which `metrics` were measured; `None` where none of them can stand for it.
    pub fn new(name: &str, metrics: &[String]) -> Option<Suite> {
        let known = EXPECTED.iter().position(|(start, _)| name.starts_with(start));
        let metric = HEADLINES.iter().find(|metric| metrics.iter().any(|other| other == *metric))?;
        let perplexing = |metric: &String| metric.contains("perplexity") || metric == "bits_per_byte";
        let language = match known {
            Some(index) => index == 0 || index == 2,
            None => metrics.iter().any(perplexing),
        };
        Some(Suite {
            name: name.to_string(),
            title: known.map_or_else(|| name.to_string(), |index| EXPECTED[index].1.to_string()),
            class: if language { Class::Language } else { Class::Reasoning },
            metric: metric.to_string(),
            guessing: match known {
                Some(1 | 3) => Some(0.25),
                Some(4) => Some(0.5),
                _ => None,
            },
        })
    }

    /// Place in tables: as in [`EXPECTED`], others behind by name.
    pub fn rank(&self) -> (usize, String) {
        let known = EXPECTED.iter().position(|(start, _)| self.name.starts_with(start));
        (known.unwrap_or(EXPECTED.len()), self.name.clone())
    }
}

/// Whether less of a metric is better.
pub fn falls_with_skill(metric: &str) -> bool {
    metric.contains("perplexity") || metric == "bits_per_byte"
}

/// A metric in words.
pub fn metric_title(metric: &str) -> String {
    match metric {
        "exact_match" => "exact match".into(),
        "token_accuracy_free" => "token accuracy, free".into(),
        "token_accuracy_forced" => "token accuracy, forced".into(),
        "acc" => "accuracy".into(),
        "acc_norm" => "accuracy, by length".into(),
        "word_perplexity" => "perplexity per word".into(),
        "byte_perplexity" => "perplexity per byte".into(),
        "bits_per_byte" => "bits per byte".into(),
        other => other.replace('_', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown_suites() {
        let check = |name: &str, metrics: &[&str], title: &str, class: Class, metric: &str| {
            let metrics: Vec<_> = metrics.iter().map(ToString::to_string).collect();
            let suite = Suite::new(name, &metrics).unwrap();
            assert_eq!((suite.title.as_str(), suite.class, suite.metric.as_str()), (title, class, metric));
        };
        check("lambada_openai", &["perplexity", "acc"], "LAMBADA", Class::Language, "acc");
        check("hellaswag", &["acc_norm", "acc"], "HellaSwag", Class::Reasoning, "acc");
        check(
            "wikitext",
            &["bits_per_byte", "word_perplexity"],
            "WikiText",
            Class::Language,
            "word_perplexity",
        );
        check("my_quiz", &["acc"], "my_quiz", Class::Reasoning, "acc");
        check("my_pages", &["byte_perplexity"], "my_pages", Class::Language, "byte_perplexity");
        assert_eq!(Suite::new("odd", &["colour".to_string()]), None);
    }
}
