//! Every metric of sequences beside other implementations: numpy, mpmath, scikit-learn, rouge-score. What is asked and
//! what they say stands in `golden/oracles.json`, written by `oracles.py`.

use rote_artifact::read;
use rote_artifact::tables::{Item, Outcome, Score as ScoreRow, Summary};
use serde_json::Value;

use super::{Case, find, params, request};

fn numbers(value: &Value) -> Vec<f64> {
    // What the sampler never gives is null there and −∞ here.
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap_or(f64::NEG_INFINITY)).collect()
}

fn tokens(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|token| token.as_u64().unwrap() as u32).collect()
}

#[test]
fn other_implementations_agree() {
    let golden: Value = serde_json::from_str(include_str!("../golden/oracles.json")).unwrap();
    let sequences = golden["sequences"].as_array().unwrap();
    let mut case = Case::default();
    for (number, given) in sequences.iter().enumerate() {
        let token = tokens(&given["token"]);
        let mut asked = request(number as u32, "sequence", "memorization", &token);
        asked.role = if given["member"] == true { "memorized" } else { "control" }.to_string();
        asked.zlib_bytes = given["zlib_bytes"].as_u64().unwrap() as u32;
        let (argmax, generated) = (tokens(&given["argmax"]), tokens(&given["generated"]));
        let of = |name: &str| numbers(&given[name]);
        let (logprob, argmax_logprob, entropy) = (of("logprob"), of("argmax_logprob"), of("entropy"));
        let (deviation, sampled) = (of("deviation"), of("sampled"));
        let outcomes: Vec<Outcome> = (0..token.len())
            .map(|place| Outcome {
                change: "none".to_string(),
                request: number as u32,
                position: place as u32,
                token: token[place],
                logprob: logprob[place],
                argmax: argmax[place],
                argmax_logprob: argmax_logprob[place],
                entropy: entropy[place],
                deviation: deviation[place],
                generated: Some(generated[place]),
                sampled: Some(sampled[place]),
            })
            .collect();
        let matched = token.iter().zip(&argmax).take_while(|(token, argmax)| token == argmax).count();
        let item = Item {
            change: "none".to_string(),
            request: number as u32,
            logprob: logprob.iter().sum(),
            matched: matched as u32,
            exact_match: matched == token.len(),
        };
        case.add((item, outcomes));
        case.requests.push(asked);
    }
    let settings = &golden["settings"];
    let number = |name: &str| settings[name].as_f64().unwrap();
    let mut params = params();
    (params.min_k, params.chance, params.fpr) = (number("min_k"), number("chance"), number("fpr"));
    params.draws = settings["draws"].as_u64().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = case.score_with(folder.path(), &params).unwrap();

    let close = |found: f64, expected: f64, what: &str| {
        let near = (found - expected).abs() <= 1e-9 * expected.abs().max(1e-3);
        assert!(near, "{what}: {found}, elsewhere {expected}");
    };
    let scores: Vec<ScoreRow> = read(&out).unwrap();
    let mut compared = 0;
    for (number, given) in sequences.iter().enumerate() {
        for (metric, expected) in given["expected"].as_object().unwrap() {
            let row = scores.iter().find(|row| row.request == Some(number as u32) && row.metric == *metric);
            let row = row.unwrap_or_else(|| panic!("no {metric} of sequence {number}"));
            close(row.value, expected.as_f64().unwrap(), &format!("{metric} of sequence {number}"));
            compared += 1;
        }
    }
    assert!(compared > 150 * 20, "{compared}");
    let summaries: Vec<Summary> = read(&out).unwrap();
    for (metric, expected) in golden["summary"].as_object().unwrap() {
        close(
            find(&summaries, "none", "memorization", metric, None).value,
            expected.as_f64().unwrap(),
            metric,
        );
    }
}
