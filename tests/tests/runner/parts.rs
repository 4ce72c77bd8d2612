//! Long work is cut in parts by itself: what was whole when a run was killed is not made again.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::lab::{Lab, contains, eventually, kill, told};

const PIPELINE: &str = "[prepare]\nsequences = \"text.txt\"\n[capture]\nrequests = \"prepare\"\n";

#[test]
fn killed_in_the_middle_of_a_stage_it_goes_on_from_the_last_whole_part() {
    let lab = Lab::new();
    lab.pipeline(PIPELINE);
    // Whole, since nothing says that it is long.
    let (code, _, stderr) = lab.run();
    assert_eq!(code, 0, "{stderr}");
    assert!(!stderr.contains("part"), "{stderr}");
    let contents = lab.contents();
    std::fs::remove_dir_all(lab.path("data/store")).unwrap();
    lab.started();

    let long = |pause: &str, arguments: &[&str]| {
        let mut command = lab.command(&[&["run", "demo.toml"], arguments].concat());
        command.env("STAND_IN_PARTS", "4").env("STAND_IN_PAUSE", pause).stdout(Stdio::null());
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    // Five lines in four parts; killed while the third is made.
    let mut runner = long("150", &[]);
    let lines = BufReader::new(runner.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut heard = Vec::new();
    for line in lines {
        heard.push(line);
        if heard.last().is_some_and(|line| line == "capture: part 2/4 done") {
            eventually("the third part", || (lab.leftovers(".part-3-of-4.partial").len() == 1).then_some(()));
            kill(runner.id());
        }
    }
    runner.wait().unwrap();
    assert!(heard.contains(&"capture: made in 4 parts".to_string()), "{heard:?}");
    assert_eq!(lab.started(), ["capture", "capture", "capture", "prepare"]);
    assert_eq!(lab.rote(&["verify"]).0, 0);
    // It says what it goes on from, and makes nothing of that again: two parts, and the whole of all.
    let (code, _, stderr) = told(long("0", &[]).wait_with_output().unwrap());
    assert_eq!(code, 0, "{stderr}");
    contains(&stderr, "capture: goes on from 2 of 4 parts\n");
    contains(&stderr, "capture: part 3/4 done\ncapture: part 4/4 done\ncapture: joined from 4 parts\n");
    assert!(!stderr.contains("part 2/4"), "{stderr}");
    assert_eq!(lab.started(), ["capture", "capture", "capture"]);
    assert_eq!(lab.contents(), contents);
    assert_eq!(lab.rote(&["verify"]).0, 0);
    assert!(lab.leftovers("-of-4").is_empty());
    // Asked for, it is not cut.
    std::fs::remove_dir_all(lab.path("data/store")).unwrap();
    let (code, _, stderr) = told(long("0", &["--parts", "1"]).wait_with_output().unwrap());
    assert_eq!(code, 0, "{stderr}");
    assert!(!stderr.contains("part"), "{stderr}");
    assert_eq!(lab.contents(), contents);
}
