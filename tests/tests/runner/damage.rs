//! Damaged and lost files: found, named with their consumers, made again.

use std::fs;
use std::os::unix::fs::symlink;

use rote_store::write_checked;

use crate::lab::{Lab, PIPELINE, contains, walk};

#[test]
fn any_flipped_byte_is_found_with_its_file_and_its_consumers() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    let (code, stdout, stderr) = lab.rote(&["verify"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    contains(&stdout, "5 artifacts, ");
    let place = lab.path("data/store/view/demo/prepare").canonicalize().unwrap();
    let files: Vec<_> = walk(&place).into_iter().filter(|path| path.is_file()).collect();
    assert_eq!(files.len(), 5 + 2);
    let mut flips = 0;
    for file in &files {
        let bytes = fs::read(file).unwrap();
        let step = (bytes.len() / 7).max(1);
        for position in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << (position % 8);
            fs::write(file, flipped).unwrap();
            let (code, _, stderr) = lab.rote(&["verify"]);
            let name = file.strip_prefix(&place).unwrap().display().to_string();
            assert_eq!(code, 3, "{name} byte {position}: {stderr}");
            contains(&stderr, &name);
            contains(&stderr, "made for demo/prepare; used by ");
            ["demo/all", "demo/extract", "demo/report", "demo/score"]
                .iter()
                .for_each(|name| contains(&stderr, name));
            flips += 1;
        }
        fs::write(file, bytes).unwrap();
    }
    assert!(flips > 30, "{flips}");
    assert_eq!(lab.rote(&["verify"]).0, 0);
    // What does not belong to an artifact is no part of it.
    fs::write(place.join("request/part-00009.txt"), "x\n").unwrap();
    contains(&lab.rote(&["verify"]).2, "part-00009.txt: no part of the artifact it lies in");
}

#[test]
fn a_lost_file_is_noticed_and_made_again() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    let before = lab.contents();
    let place = lab.path("data/store/view/demo/extract").canonicalize().unwrap();
    for lost in ["request/part-00001.txt", "artifact.json"] {
        lab.started();
        fs::remove_file(place.join(lost)).unwrap();
        contains(&lab.rote(&["verify"]).2, lost);
        let (code, _, stderr) = lab.run();
        assert_eq!(code, 0, "{stderr}");
        contains(&stderr, "extract: runs: its stored result is damaged: ");
        contains(&stderr, lost);
        assert_eq!(lab.started(), ["extract"]);
        assert_eq!(lab.contents(), before);
    }
    fs::remove_dir_all(&place).unwrap();
    contains(&lab.run().2, "extract: runs: its result is gone from the store\n");
}

#[test]
fn any_flipped_bit_of_any_file_of_the_store_is_found() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    let store = lab.path("data/store");
    // Nothing was remembered of files that changed a moment ago.
    write_checked(&store.join("digests"), b"{}").unwrap();
    assert_eq!(lab.rote(&["verify"]), (0, lab.rote(&["verify"]).1, String::new()));
    // Logs are for reading; the file `lock` holds who last made something.
    let files =
        walk(&store).into_iter().filter(|path| path.is_file() && !path.starts_with(store.join("log")));
    let files: Vec<_> = files.filter(|path| path.file_name() != Some("lock".as_ref())).collect();
    assert!(files.len() > 5 * 4, "{files:?}");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        for (position, bit) in [(0, 7), (bytes.len() / 2, 7), (bytes.len() / 3, 0), (bytes.len() - 1, 2)] {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << bit;
            fs::write(&file, flipped).unwrap();
            let (code, _, stderr) = lab.rote(&["verify"]);
            let name = file.strip_prefix(&store).unwrap().display().to_string();
            assert_eq!(code, 3, "{name}, bit {bit} of byte {position}: {stderr}");
            contains(&stderr, &name);
        }
        fs::write(&file, bytes).unwrap();
    }
    assert_eq!(lab.rote(&["verify"]).0, 0);
    // What is remembered is made again where it can't be believed.
    for name in ["digests".to_string(), lab.path("data/store/describe").display().to_string()] {
        let path = store.join(name);
        let path = if path.is_dir() { walk(&path).remove(0) } else { path };
        fs::write(&path, "?").unwrap();
        contains(&lab.run().2, "nothing to do");
        assert_eq!(lab.rote(&["verify"]).0, 0);
    }
}

#[test]
fn a_lost_result_is_told_by_its_link() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    let link = lab.path("data/store/view/demo/report");
    fs::remove_dir_all(link.canonicalize().unwrap()).unwrap();
    let (code, _, stderr) = lab.rote(&["verify"]);
    assert_eq!(code, 3);
    contains(&stderr, "damaged: data/store/view/demo/report: its result is gone\n  made for demo/report\n");
    assert_eq!(lab.run().0, 0);
    assert_eq!(lab.rote(&["verify"]).0, 0);
    fs::remove_file(&link).unwrap();
    symlink("../../ab/abc", &link).unwrap();
    contains(&lab.rote(&["verify"]).2, "demo/report: its result is gone");
    assert_eq!(lab.run().0, 0);
    assert_eq!(lab.rote(&["verify"]).0, 0);
}

#[test]
fn a_damaged_artifact_that_was_read_from_elsewhere_is_found() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    let place = lab.path("data/store/view/demo/prepare").canonicalize().unwrap();
    fs::rename(place, lab.path("lines")).unwrap();
    let start = PIPELINE.find("[extract]").unwrap();
    lab.pipeline(&PIPELINE[start..].replace("prepare.request", "lines").replace("\"prepare\"", "\"lines\""));
    fs::remove_dir_all(lab.path("data/store")).unwrap();
    assert_eq!(lab.run().0, 0);
    assert_eq!(lab.rote(&["verify"]), (0, lab.rote(&["verify"]).1, String::new()));
    // Of the same length, and its manifest says what it always did.
    fs::write(lab.path("lines/request/part-00000.txt"), "canan\n").unwrap();
    let (code, _, stderr) = lab.rote(&["verify"]);
    assert_eq!(code, 3);
    contains(&stderr, "its --requests is damaged: lines/request/part-00000.txt: is ");
    contains(&stderr, "made for demo/extract; used by demo/report, demo/score\n");
}

#[test]
fn a_command_that_is_pasted_twice_damages_nothing() {
    let lab = Lab::new();
    let plan = lab.rote(&["plan", "demo.toml"]).1;
    let pasted = plan.lines().find_map(|line| line.strip_prefix("  $ ")).unwrap();
    assert_eq!(lab.run().0, 0);
    let mut paste = std::process::Command::new("sh");
    assert!(paste.args(["-c", pasted]).current_dir(lab.folder.path()).output().unwrap().status.success());
    assert_eq!(lab.rote(&["verify"]).0, 0);
    contains(&lab.run().2, "nothing to do");
    assert_eq!(lab.rote(&["verify"]), (0, lab.rote(&["verify"]).1, String::new()));
}
