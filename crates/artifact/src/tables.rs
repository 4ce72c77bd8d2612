//! The tables: each column with type, unit and meaning. This is the contract with users.

table! { "request", version 1,
    /// One thing asked of a model: how likely is `continuation` after `context`?
    Request {
        request: u32, "row of this table, dense from 0, in input order";
        source: String, "the file it came from, by name";
        document: u32, "row of the source";
        choice: i32, "which answer of the document; -1 for a sequence";
        kind: String, "`sequence`, `choice`, `word` or `rolling`";
        task: String, "suite: the task's name; `memorization` for sequences";
        role: String, "`candidate`, `memorized`, `control` or `benchmark`";
        context: Vec<u32>, "tokens given";
        continuation: Vec<u32>, "tokens asked about";
        gold: i32, "index of the right choice; -1 where there is none";
        seen: Option<u32>, "times shown in training; null where unknown";
        choice_chars: u32, "code points of the choice, without the delimiter; 0 where it has none";
        document_words: u32, "words of the page; 0 where it is none";
        document_bytes: u32, "UTF-8 bytes of the page; 0 where it is none";
        doc_hash: String, "SHA-256 of a benchmark's document as lm-evaluation-harness writes it; empty for sequences";
        prompt_hash: String, "SHA-256 of the context's text; empty for given tokens";
        target_hash: String, "SHA-256 of the target's text; empty for given tokens";
        zlib_bytes: u32, "bytes of a sequence's continuation as text after zlib at level 6; 0 for a benchmark";
    }
}

table! { "extraction", version 1,
    /// Whether greedy decoding reproduces a continuation.
    Extraction {
        request: u32, "request asked";
        role: String, "what became of it: `memorized`, `control` or `dropped`";
        seen: Option<u32>, "times shown in training; null where unknown";
        prefix: Option<u32>, "tokens given";
        matched: u32, "leading continuation tokens that greedy decoding gives";
        exact_match: bool, "whether these are all";
        logprob: f64, "nats, summed over the continuation";
        sampled: Option<f64>, "nats, the same under a sampler (temperature, top-k, top-p); -inf where it never gives it; null without one";
    }
}

table! { "outcome", version 1,
    /// One scored token under one intervention.
    Outcome {
        change: String, "intervention";
        request: u32, "request";
        position: u32, "index in the continuation";
        token: u32, "the true token there";
        logprob: f64, "nats, of the true token given the true past";
        argmax: u32, "the likeliest token given the true past; ties to the lowest";
        argmax_logprob: f64, "nats, of that token";
        entropy: f64, "nats, of the distribution that predicts this token given the true past";
        deviation: f64, "nats, standard deviation of log p under p, same distribution";
        generated: Option<u32>, "free-running greedy token; null without --generate";
        sampled: Option<f64>, "nats, of the true token given the true past under a sampler (temperature, top-k, top-p); -inf where it never gives it; null without one";
    }
}

table! { "item", version 1,
    /// One request under one intervention.
    Item {
        change: String, "intervention";
        request: u32, "request";
        logprob: f64, "nats, summed over the continuation";
        matched: u32, "leading continuation tokens that greedy decoding gives";
        exact_match: bool, "whether these are all";
    }
}

table! { "score", version 1,
    /// One metric of one item under one intervention.
    Score {
        change: String, "intervention";
        suite: String, "`memorization` or the task's name";
        metric: String, "metric";
        request: Option<u32>, "request, for metrics of requests";
        document: Option<u32>, "document, for metrics of documents";
        role: String, "role of the request";
        seen: Option<u32>, "times shown in training; null where unknown";
        prefix: Option<u32>, "tokens given, for a sequence; null for a document";
        value: f64, "value, in the metric's unit";
    }
}

table! { "summary", version 2,
    /// One metric over all items of a group under one intervention.
    Summary {
        change: String, "intervention";
        suite: String, "`memorization` or the task's name";
        role: String, "role of the requests; two joined by `+` where a metric compares or ranks both";
        seen: Option<u32>, "times shown in training, for a group of equal count; null for all of the role";
        prefix: Option<u32>, "tokens given, for a group of equal prefixes; null for all of the role (where a sequence is asked after several, after the longest)";
        metric: String, "metric";
        value: f64, "value, in the metric's unit";
        stderr: Option<f64>, "standard error; null where there is none";
        ci_low: Option<f64>, "lower end of the 95 % interval";
        ci_high: Option<f64>, "upper end of the 95 % interval";
        n: u32, "items";
        baseline: f64, "the value at `none`";
        relative_change: Option<f64>, "(value - baseline) / baseline; null where the baseline is 0";
        interval: String, "how the interval was made: `wilson`, `bca`, `bootstrap_t`, `student`, `delong_logit`, `newcombe` or `none`";
        difference: f64, "value - baseline";
        difference_low: Option<f64>, "lower end of the difference's 95 % interval, paired by item; null at `none`";
        difference_high: Option<f64>, "upper end of it";
        difference_interval: String, "how it was made: `bca`, `bootstrap_t`, `mover`, `newcombe`, `tango`, `student` or `none`";
        ratio_low: Option<f64>, "lower end of the 95 % interval of value / baseline, paired by item, for a perplexity; else null";
        ratio_high: Option<f64>, "upper end of it";
        p_value: Option<f64>, "two-sided, of no difference: McNemar's mid-p of shares, of items swapped at random where other values have bounds, else by the interval's method; null at `none`";
        p_adjusted: Option<f64>, "the same after Holm's correction over all changes of the group and metric";
    }
}

table! { "constant", version 1,
    /// A norm of a model's weights, as the bounds need it: an upper bound in floating point.
    Constant {
        block: u32, "block";
        name: String, "what it is a norm of";
        index: u32, "which of several, such as the head; counted from 0";
        value: f64, "the norm";
    }
}

table! { "bound", version 1,
    /// A bound on a difference, and the difference.
    Bound {
        change: String, "intervention";
        block: i32, "block whose output differs; -1 the final norm, -2 the logits";
        request: u32, "request";
        position: u32, "index in context ++ continuation";
        bound: String, "name of the theorem";
        value: f64, "upper bound with its slack, in residual units or nats; of out.product its log10";
        measured: f64, "what it bounds, measured, same unit";
        slack: f64, "how much of `value` was added for rounding, summed over the steps that lead to it; same unit";
    }
}

table! { "reach", version 1,
    /// What one intervention does at one position: measured, decomposed, certified.
    Reach {
        change: String, "intervention";
        block: i32, "first block that is changed";
        request: u32, "request";
        position: u32, "index in context ++ continuation";
        local: f64, "by how much the first changed module's output is displaced, residual units";
        output: f64, "by how much the last block's output differs, residual units";
        state: f64, "norm of the last block's output without the intervention, residual units";
        direct: f64, "share of the output's difference that is the local displacement itself";
        later_attn: f64, "share that other attention modules make of it";
        later_mlp: f64, "share that other MLPs make of it; the three sum to 1, or are 0 where nothing differs";
        estimate: f64, "first-order estimate of `output`; not a bound";
        bound: f64, "bound on `output` along the trajectory (out.trajectory)";
        radius: f64, "any difference of the output below it leaves the greedy token; residual units";
        greedy: u32, "greedy token without the intervention";
        changed: bool, "whether the intervention changes the greedy token";
        certified: bool, "whether the bound alone proves that it cannot (`bound` below `radius`)";
        within: bool, "whether the measured difference proves it (`output` below `radius`)";
        logprob_change: Option<f64>, "change of the true next token's log-probability, nats; null at the last position";
        logprob_fall: Option<f64>, "bound on its fall, nats";
        kl: f64, "divergence of the distribution without from that with the intervention, nats";
    }
}

table! { "ratio", version 1,
    /// What one row of `bound` adds to `tightness`; kept by a part of the work, until the parts are joined.
    Ratio {
        change: String, "intervention";
        block: i32, "block whose output differs; -1 the final norm, -2 the logits";
        bound: String, "name of the theorem";
        informative: bool, "whether the value is below what holds without any theorem";
        log10: Option<f64>, "log10 of value over measured; null where the measured value is negligible";
    }
}

table! { "tightness", version 1,
    /// How far one bound is from what was measured, over all requests and positions of one intervention.
    Tightness {
        change: String, "intervention";
        block: i32, "block whose output differs; -1 the final norm, -2 the logits";
        bound: String, "name of the theorem";
        claim: String, "`bound`, `equality` or `estimate`";
        n: u32, "rows";
        compared: u32, "rows whose measured value is not negligible";
        log10_median: Option<f64>, "log10 of value over measured, median of the compared rows";
        log10_p90: Option<f64>, "the same, 90th percentile";
        log10_max: Option<f64>, "the same, largest";
        informative: f64, "share of all rows whose value is below what holds without any theorem; of local.*, at most ten times the measured";
        verdict: String, "`exact`, `informative` (at least half of the rows are), `vacuous`, or `estimate`";
    }
}
