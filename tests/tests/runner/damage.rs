//! Damaged and lost files: found, named with their consumers, made again.

use std::fs;

use crate::lab::{Lab, contains, walk};

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
