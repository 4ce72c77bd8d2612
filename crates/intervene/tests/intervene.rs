//! The command as users call it: the same content whatever the batch and the threads, whole or absent.

use std::path::{Path, PathBuf};
use std::process::{Command, Output as Finished};

use rote_artifact::tables::{Item, Outcome, Request};
use rote_artifact::{Activation, ActivationKey, ActivationWriter, Store, TableWriter, read};
use rote_plan::Hook;
use rote_store::{Manifest, Output, StageEntry};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/tiny/neox-parallel");

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Requests of all shapes, two of them with a common context.
fn requests(folder: &Path) -> PathBuf {
    let place = folder.join("requests");
    let output = Output::begin(&place).unwrap();
    let mut writer = TableWriter::<Request>::new(&output);
    let mut state = 7_u64;
    let mut token = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % 64
    };
    let shared: Vec<u32> = (0..9).map(|_| token()).collect();
    let rows = (0..23_u32).map(|request| Request {
        request,
        source: "test".into(),
        document: request,
        choice: -1,
        kind: "sequence".into(),
        task: "memorization".into(),
        role: "candidate".into(),
        context: if request % 5 < 2 {
            shared.clone()
        } else {
            (0..1 + request % 7).map(|_| token()).collect()
        },
        continuation: (0..1 + request % 6).map(|_| token()).collect(),
        gold: -1,
        seen: None,
        ..Request::default()
    });
    writer.extend(rows.collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap();
    let stage = StageEntry { name: "test".into(), version: "0".into() };
    output.finish(stage, serde_json::json!({}), Default::default(), serde_json::json!({})).unwrap();
    place
}

fn intervene(requests: &Path, out: &Path, more: &[&str]) -> Finished {
    Command::new(env!("CARGO_BIN_EXE_rote-intervene"))
        .args(["--model", MODEL, "--quiet", "--requests"])
        .arg(requests)
        .arg("--out")
        .arg(out)
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn content_does_not_depend_on_batch_or_threads() {
    let folder = scratch("intervene-content");
    let requests = requests(&folder);
    let mut contents = Vec::new();
    for (batch, threads) in [("1", "1"), ("1", "2"), ("7", "2"), ("64", "1")] {
        let out = folder.join(format!("out-{batch}-{threads}"));
        let changes = ["--change", "attn.identity@each", "--change", "attn.zero@0+mlp.zero@1", "--generate"];
        let more = [&changes[..], &["--batch", batch, "--threads", threads]].concat();
        let finished = intervene(&requests, &out, &more);
        assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
        contents.push(Manifest::read(&out).unwrap().content_id);
    }
    assert!(contents.windows(2).all(|pair| pair[0] == pair[1]), "{contents:?}");

    let items: Vec<Item> = read(&folder.join("out-1-1")).unwrap();
    let outcomes: Vec<Outcome> = read(&folder.join("out-1-1")).unwrap();
    assert_eq!(items[0].change, "none");
    for item in &items {
        let mine: Vec<_> =
            outcomes.iter().filter(|o| o.request == item.request && o.change == item.change).collect();
        let logprob: f64 = mine.iter().map(|outcome| outcome.logprob).sum();
        assert!((logprob - item.logprob).abs() < 1e-12);
        // As long as the free-running text is right, it is what the true past predicts; it is wrong first
        // where that is.
        let matched = item.matched as usize;
        assert!(mine[..matched].iter().all(|o| o.argmax == o.token && o.generated == Some(o.token)));
        if let Some(wrong) = mine.get(matched) {
            assert!(wrong.argmax != wrong.token && wrong.generated == Some(wrong.argmax));
        }
        assert_eq!(item.exact_match, matched == mine.len());
    }
}

#[test]
fn memory_cuts_batches_and_changes_nothing() {
    let folder = scratch("intervene-memory");
    let requests = requests(&folder);
    let run = |memory: u64| {
        let out = folder.join(format!("out-{memory}"));
        let memory = format!("{memory}KiB");
        let changes = ["--change", "attn.identity@each", "--generate", "--threads", "1", "--memory", &memory];
        let finished = intervene(&requests, &out, &changes);
        let message = String::from_utf8_lossy(&finished.stderr).into_owned();
        let content = finished.status.success().then(|| Manifest::read(&out).unwrap().content_id);
        assert!(content.is_some() || message.contains("--memory allows") && !out.exists(), "{message}");
        content
    };
    let (mut refused, mut enough) = (1, 1 << 20);
    let plenty = run(enough).expect("a gibibyte is plenty");
    assert_eq!(run(refused), None);
    while refused + 1 < enough {
        let middle = refused.midpoint(enough);
        match run(middle) {
            Some(content) => {
                assert_eq!(content, plenty, "{middle} KiB");
                enough = middle;
            }
            None => refused = middle,
        }
    }
    // The weights and the buffers of one thread at least.
    assert!(enough > 1024, "{enough} KiB are enough");
}

#[test]
fn a_refusal_names_the_cause_and_leaves_nothing() {
    let folder = scratch("intervene-refusal");
    let requests = requests(&folder);
    let out = folder.join("out");
    // Also where it is only asked how large the work is.
    for more in [&[][..], &["--work"]] {
        let finished = intervene(&requests, &out, &[&["--change", "attn.identity@99"], more].concat());
        let message = String::from_utf8_lossy(&finished.stderr);
        assert!(!finished.status.success() && message.contains("block 99 does not exist"), "{message}");
    }
    let finished = intervene(&folder, &out, &[]);
    let message = String::from_utf8_lossy(&finished.stderr);
    assert_eq!(finished.status.code(), Some(3), "{message}");
    let finished = intervene(&requests, &out, &["--chnge", "none"]);
    assert_eq!(finished.status.code(), Some(2));
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["requests"]);
}

/// A reference whose vectors cancel: nothing is left of a head, or of a module, that becomes its mean.
#[test]
fn means_are_those_of_the_reference_at_none() {
    let folder = scratch("intervene-means");
    let requests = requests(&folder);
    let reference = |name: &str, hooks: &[Hook]| {
        let place = folder.join(name);
        let output = Output::begin(&place).unwrap();
        for &hook in hooks {
            let key = ActivationKey { hook, block: 1, width: 32 };
            let mut writer = ActivationWriter::new(&output, key, Store::F32, &[]);
            for (row, change) in ["none", "none", "attn.zero@0"].into_iter().enumerate() {
                let value = vec![if row == 1 { -2.0 } else { 2.0 }; 32];
                let (change, position) = (change.to_string(), row as u32);
                writer
                    .push(Activation { change, request: 0, position, token: 1, head: None, value })
                    .unwrap();
            }
            writer.finish().unwrap();
        }
        let stage = StageEntry { name: "test".into(), version: "0".into() };
        output.finish(stage, serde_json::json!({}), Default::default(), serde_json::json!({})).unwrap();
        place.to_str().unwrap().to_string()
    };
    let both = reference("both", &[Hook::AttnOut, Hook::Z]);
    let changes = ["attn.mean@1", "attn.zero@1", "attn.mean@1:h1", "attn.zero@1:h1"];
    let asked: Vec<&str> = changes.iter().flat_map(|change| ["--change", change]).collect();
    let out = folder.join("out");
    let finished = intervene(&requests, &out, &[&asked[..], &["--generate", "--reference", &both]].concat());
    assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
    let outcomes: Vec<Outcome> = read(&out).unwrap();
    let of = |change: &str| -> Vec<_> {
        let mine = outcomes.iter().filter(|outcome| outcome.change == change);
        mine.map(|o| (o.request, o.position, o.logprob, o.entropy, o.generated)).collect()
    };
    assert_eq!(of("attn.mean@1"), of("attn.zero@1"));
    assert_eq!(of("attn.mean@1:h1"), of("attn.zero@1:h1"));
    assert_ne!(of("attn.mean@1:h1"), of("none"));

    let outputs = reference("outputs", &[Hook::AttnOut]);
    for (more, words) in [
        (vec!["attn.mean@1:h1"], vec!["`attn.mean@1:h1` needs activations of z", "--reference"]),
        (vec!["attn.mean@1:h1", "--reference", &outputs], vec!["no vectors of z at block 1"]),
        (vec!["attn.mean@0", "--reference", &both], vec!["attn_out of block 0", "no vectors of attn_out"]),
    ] {
        let finished = intervene(&requests, &folder.join("none"), &[&["--change"], &more[..]].concat());
        let message = String::from_utf8_lossy(&finished.stderr);
        assert_eq!(finished.status.code(), Some(3), "{message}");
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
}

#[test]
fn a_sampler_says_how_likely_each_token_is_drawn_under_every_change() {
    let folder = scratch("intervene-sampler");
    let requests = requests(&folder);
    let answer = |name: &str, more: &[&str]| -> Vec<Outcome> {
        let out = folder.join(name);
        let changes = ["--change", "attn.identity@each", "--change", "attn.zero@0+mlp.zero@1"];
        let finished = intervene(&requests, &out, &[&changes[..], more].concat());
        assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
        read(&out).unwrap()
    };
    assert!(answer("without", &[]).iter().all(|outcome| outcome.sampled.is_none()));
    // At temperature 1 from all tokens it is the log-probability, though by another pass.
    for outcome in answer("plain", &["--temperature", "1"]) {
        let sampled = outcome.sampled.unwrap();
        assert!((sampled - outcome.logprob).abs() < 1e-5, "{outcome:?}");
    }
    // Of one token only the arg-max is left.
    for outcome in answer("one", &["--top-k", "1"]) {
        let expected = if outcome.argmax == outcome.token { 0.0 } else { f64::NEG_INFINITY };
        assert_eq!(outcome.sampled, Some(expected), "{outcome:?}");
    }
    let drawn = ["--top-k", "20", "--top-p", "0.9", "--temperature", "0.7"];
    let together = answer("together", &drawn);
    assert_eq!(together, answer("alone", &[&drawn[..], &["--batch", "1", "--threads", "1"]].concat()));
    assert!(together.iter().any(|outcome| outcome.sampled > Some(outcome.logprob)));
    let refused = intervene(&requests, &folder.join("refused"), &["--temperature", "0"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("above 0"));
}
