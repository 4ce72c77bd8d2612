//! A wrong pipeline is told line by line, before any work.

use crate::lab::{Lab, PIPELINE, contains};

#[test]
fn a_wrong_pipeline_is_told_before_any_work() {
    let lab = Lab::new();
    let check = |from: &str, to: &str, expected: &str| {
        assert!(PIPELINE.contains(from), "{from}");
        lab.pipeline(&PIPELINE.replacen(from, to, 1));
        let (code, stdout, stderr) = lab.run();
        assert_eq!((code, stdout.as_str(), stderr), (2, "", format!("rote: demo.toml: {expected}\n")));
    };
    check("prefix", "prefx", "[prepare] prefx: no such key of rote-prepare; nearest: `prefix`");
    check(
        "prefix = 5",
        "threads = 5",
        "[prepare] threads: can't change a result, so it is no key of a pipeline; \
        `rote run --help` has what there is",
    );
    check("prefix = 5", "prefix = [5, 6]", "[prepare] prefix: 2 values, but it takes one");
    check("prefix = 5", "prefix = true", "[prepare] prefix: needs a value, not a switch");
    check("prefix = 5", "case = \"lowr\"", "[prepare] case: `lowr` is no value of it; nearest: `lower`");
    check("sum = true", "sum = 1", "[all] sum: a switch: `true` or `false`");
    check("sequences = \"text.txt\"", "", "[prepare] sequences: missing; rote-prepare needs it");
    check("\"text.txt\"", "\"txt.txt\"", "[prepare] sequences: no file, folder or node `txt.txt`");
    check("\"text.txt\"", "\"extract.request\"", "cycle: prepare -> extract -> prepare");
    check(
        "\"text.txt\"",
        "\"../text.txt\"",
        "[prepare] sequences: `../text.txt` lies outside of the folder \
        `rote` was called in; `--allow DIR` permits a folder",
    );
    check(
        "\"prepare\"",
        "\"prepre\"",
        "[all] requests: no file, folder or node `prepre`; nearest: `prepare`",
    );
    check("\"prepare\"", "\"report\"", "[all] requests: takes request, but report gives page");
    check(
        "\"all=all.score\"",
        "\"all=all.outcome\"",
        "[report] scores: all gives no `outcome`, but score, summary; \
        a file is written `./all.outcome`",
    );
    check("\"all=all.score\"", "\"all.score\"", "[report] scores: `all.score` is not of the form NAME=FILE");
    check("[all]", "x = [", "line 15: unexpected `=` in array, expected value, `]`");
    lab.pipeline(&PIPELINE.replace("stage = \"score\"", "stage = \"scroe\""));
    let (code, _, stderr) = lab.run();
    contains(&stderr, "rote: demo.toml: no stage `scroe`: there is no rote-scroe in ");
    contains(&stderr, "; nearest: `score`\n");
    assert_eq!(code, 2);
    assert_eq!(lab.started(), [""; 0]);
    assert_eq!(lab.rote(&["run", "none.toml"]), (2, String::new(), "rote: none.toml: no such file\n".into()));
    assert!(!lab.path("data/store/lock").exists());
}
