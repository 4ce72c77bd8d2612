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
    // Whoever collects meanwhile leaves them.
    contains(&lab.rote(&["collect", "--delete"]).1, ".part-3-of-4.partial  0.0 MB  left by a killed run\n");
    assert_eq!((lab.leftovers("-of-4").len(), lab.leftovers("-of-4.partial").len()), (2, 0));
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

#[test]
fn parts_are_kept_until_no_pipeline_goes_on_from_them() {
    let lab = Lab::new();
    let with = |prefix: usize| {
        lab.pipeline(&PIPELINE.replace("\"text.txt\"\n", &format!("\"text.txt\"\nprefix = {prefix}\n")));
    };
    let rote = |arguments: &[&str]| {
        let (code, stdout, stderr) = lab.rote(arguments);
        assert_eq!(code, 0, "{stderr}");
        stdout + &stderr
    };
    let collected = || rote(&["collect", "--delete"]);
    with(3);
    rote(&["run", "demo.toml", "prepare"]);
    rote(&["run", "demo.toml", "capture", "--shard", "2/3"]);
    contains(&collected(), "1 results needed; 0 things");
    // The pipeline is another one, but no capture of it is made yet: what the parts were made of stays too.
    with(4);
    rote(&["run", "demo.toml", "prepare"]);
    contains(&collected(), "2 results needed; 0 things");
    contains(&collected(), "0 things");
    with(3);
    contains(&rote(&["run", "demo.toml", "--parts", "3"]), "capture: goes on from 1 of 3 parts\n");
    // Another capture was made: nothing goes on from the parts of the first.
    with(5);
    rote(&["run", "demo.toml", "prepare"]);
    rote(&["run", "demo.toml", "capture", "--shard", "1/3"]);
    with(4);
    rote(&["run", "demo.toml"]);
    let told = collected();
    contains(&told, ".part-1-of-3  0.0 MB  left by a killed run\n");
    contains(&told, "2 results needed; ");
    assert_eq!((lab.leftovers("-of-3").len(), lab.leftovers("-of-3.seal").len()), (0, 0));
    contains(&collected(), "2 results needed; 0 things");
    // Nor from those of a pipeline that does not count.
    with(6);
    rote(&["run", "demo.toml", "prepare"]);
    rote(&["run", "demo.toml", "capture", "--shard", "1/3"]);
    lab.pipeline("[prepare]\nsequences = \"text.txt\"\nprefix = 6\n");
    contains(&rote(&["collect", "demo.toml", "--delete"]), "1 results needed; ");
    assert_eq!(lab.leftovers("-of-3").len(), 0);
    contains(&rote(&["verify"]), "1 artifacts, ");
}

#[test]
fn a_damaged_part_is_found_and_made_again() {
    let lab = Lab::new();
    lab.pipeline(PIPELINE);
    assert_eq!(lab.run().0, 0);
    let contents = lab.contents();
    for file in ["artifact.json", "run.json", "activation/part-00000.txt"] {
        std::fs::remove_dir_all(lab.path("data/store")).unwrap();
        assert_eq!(lab.rote(&["run", "demo.toml", "prepare"]).0, 0);
        for part in ["1/2", "2/2"] {
            assert_eq!(lab.rote(&["run", "demo.toml", "capture", "--shard", part]).0, 0);
        }
        assert_eq!(lab.rote(&["verify"]), (0, lab.rote(&["verify"]).1, String::new()));
        let part = lab.leftovers(".part-2-of-2").remove(0);
        let mut bytes = std::fs::read(part.join(file)).unwrap();
        // Blanks may differ, and yet it is not what was written.
        let place = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        bytes[place] ^= 1 << 1 | 1 << 3 | 1 << 5;
        std::fs::write(part.join(file), bytes).unwrap();
        let (code, _, stderr) = lab.rote(&["verify"]);
        assert_eq!(code, 3, "{file}: {stderr}");
        contains(&stderr, &format!(".part-2-of-2/{file}: "));
        contains(&stderr, "  a part, made for demo/capture; used by nothing yet\n");
        // What a part says of itself is compared before anything is made of it; what its files hold, when it is joined.
        let (code, _, stderr) = lab.rote(&["run", "demo.toml", "--parts", "2"]);
        if file.ends_with(".json") {
            assert_eq!(code, 0, "{stderr}");
            contains(&stderr, "capture: goes on from 1 of 2 parts\n");
        } else {
            assert_eq!(code, 3, "{stderr}");
            contains(&stderr, "part-00000.txt is not what was written");
            assert_eq!(lab.run().0, 0);
        }
        assert_eq!(lab.contents(), contents);
        assert_eq!(lab.rote(&["verify"]), (0, lab.rote(&["verify"]).1, String::new()));
    }
}

#[test]
fn a_part_that_nobody_sealed_is_compared_with_its_key() {
    let lab = Lab::new();
    lab.pipeline(PIPELINE);
    assert_eq!(lab.rote(&["run", "demo.toml", "prepare"]).0, 0);
    assert_eq!(lab.rote(&["run", "demo.toml", "capture", "--shard", "1/2"]).0, 0);
    let place = lab.leftovers(".part-1-of-2").remove(0);
    let seal = || place.with_added_extension("seal");
    // As a run leaves it that was killed right after the part.
    std::fs::remove_file(seal()).unwrap();
    let again = |told: &str| {
        let (code, _, stderr) = lab.rote(&["run", "demo.toml", "capture", "--shard", "1/2"]);
        assert_eq!(code, 0, "{stderr}");
        contains(&stderr, told);
    };
    again("capture: part 1/2 is fresh, ");
    let run = std::fs::read_to_string(place.join("run.json")).unwrap();
    let code = rote_store::digest_file(&lab.path("bin/rote-capture")).unwrap().to_string();
    contains(&run, &code);
    std::fs::write(place.join("run.json"), run.replace(&code, &"0".repeat(64))).unwrap();
    again("capture: part 1/2 done, ");
    assert!(seal().is_file());
    // What is no writer's does not stand in the way.
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::create_dir(place.with_added_extension("partial")).unwrap();
    std::fs::write(place.with_added_extension("partial").join("half"), "x").unwrap();
    again("capture: part 1/2 done, ");
}

#[test]
fn a_failure_elsewhere_ends_a_run_after_the_part_in_hand() {
    let lab = Lab::new();
    lab.pipeline(&format!("{PIPELINE}[score]\nrequests = \"prepare\"\nletter = [\"a\"]\n"));
    let run = |arguments: &[&str]| {
        let arguments =
            [&["run", "demo.toml", "--parts", "4", "--threads", "2", "--jobs", "2"], arguments].concat();
        let mut command = lab.command(&arguments);
        told(command.env("STAND_IN_PAUSE", "200").env("STAND_IN_FAIL", "score").output().unwrap())
    };
    let (code, _, stderr) = run(&[]);
    assert_eq!(code, 1, "{stderr}");
    contains(&stderr, "score: failed: ");
    contains(&stderr, "capture  not run");
    assert!(!stderr.contains("part 4/4"), "{stderr}");
    assert_eq!(lab.rote(&["verify"]).0, 0);
    // Unless it is to go on.
    let (code, _, stderr) = run(&["-k"]);
    assert_eq!(code, 1, "{stderr}");
    contains(&stderr, "capture: part 4/4 done\ncapture: joined from 4 parts\n");
}

#[test]
fn a_part_made_by_another_executable_is_dropped_and_the_rest_goes_on() {
    let lab = Lab::new();
    lab.pipeline(&format!("{PIPELINE}[score]\nrequests = \"prepare\"\nletter = [\"a\"]\n"));
    let (capture, built) = (lab.path("bin/rote-capture"), lab.path("bin/built"));
    let bytes = [std::fs::read(&capture).unwrap(), vec![0]].concat();
    std::fs::copy(&capture, &built).unwrap();
    std::fs::write(&built, bytes).unwrap();
    let mut command = lab.command(&["run", "demo.toml", "-k", "--parts", "2", "--jobs", "1"]);
    command.env("STAND_IN_PAUSE", "250").stdout(Stdio::null()).stderr(Stdio::piped());
    let runner = command.spawn().unwrap();
    eventually("the first part", || (lab.leftovers(".part-1-of-2.partial").len() == 1).then_some(()));
    // A new build while it runs.
    std::fs::rename(built, capture).unwrap();
    let (code, _, stderr) = told(runner.wait_with_output().unwrap());
    assert_eq!(code, 1, "{stderr}");
    contains(&stderr, "capture: part 1/2 done\n");
    let expected = "capture: failed: its executable changed while it ran; part 2/2 is dropped, run again;";
    contains(&stderr, expected);
    contains(&stderr, "score    ran ");
    assert_eq!(lab.rote(&["verify"]).0, 0);
    assert_eq!(lab.run().0, 0);
    assert_eq!(lab.rote(&["collect", "--delete"]).0, 0);
    assert_eq!(lab.leftovers("-of-2").len(), 0);
}
