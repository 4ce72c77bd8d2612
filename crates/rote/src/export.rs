//! `export make|snakemake`: the pipeline as rules of another engine. Each rule is one `rote run` of one node, so stage
//! binaries, files and keys are those of the runner; the engine decides what runs where and when. With parts, a node
//! whose stage works request by request becomes as many jobs, and a last one that joins them.
//!
//! A rule's target is a small file `STORE/made/PIPELINE/NODE`: results are named by content, which no engine can know
//! before the inputs are made.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rote_store::files_of;

use crate::check::{Node, Source};
use crate::command;
use crate::estimate::{Estimate, estimate};
use crate::failure::Wrong;
use crate::plan::Scene;
use crate::stages;

/// One node as another engine sees it.
struct Rule {
    name: String,
    /// What it does, as a comment.
    comment: String,
    /// Names of the nodes it reads.
    parents: Vec<String>,
    /// Files it reads, the pipeline and its stage's executable among them.
    files: Vec<String>,
    /// In how many parts it is made.
    parts: usize,
    /// Accelerators it takes.
    devices: Option<u32>,
    /// Memory in MB and time in minutes, with room to spare, where an earlier run tells.
    memory: Option<u64>,
    minutes: Option<u64>,
}

/// The runner as it is called from here, and its folder.
fn runner() -> Result<(String, PathBuf)> {
    let home = near(&stages::home()?);
    Ok((home.join("rote").display().to_string(), home))
}

/// A path relative to the folder of the call, where it lies below.
fn near(path: &Path) -> PathBuf {
    let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
    match path.strip_prefix(&here) {
        Ok(below) => below.to_path_buf(),
        Err(_) => path.to_path_buf(),
    }
}

/// Letters that mean something in the rules of make or snakemake, and can't be said otherwise in both.
fn is_special(letter: char) -> bool {
    letter.is_control() || ":;|&%*?[]~\\\"{}".contains(letter)
}

/// The names of the runner and of the store, if rules can hold them: they stand in commands as well, where a shell
/// reads them.
fn names(scene: &Scene) -> Result<(String, String)> {
    let (rote, store) = (runner()?.0, scene.shelf.root.display().to_string());
    for name in [&rote, &store] {
        if name.contains(is_special) || name.contains(|letter| "'$`()<>!".contains(letter)) {
            return Err(unfit(name));
        }
    }
    Ok((rote, store))
}

fn unfit(name: &str) -> anyhow::Error {
    Wrong::one(format!("`{name}`: no file of that name can stand in a rule of make or snakemake"))
}

fn rules(scene: &Scene, pipeline: &Path, parts: usize) -> Result<Vec<Rule>> {
    let (_, home) = runner()?;
    let nodes = &scene.pipeline.nodes;
    let rule = |node: &Node| {
        let parents = node.parents().into_iter().map(|parent| nodes[parent].name.clone()).collect();
        let mut files = vec![pipeline.to_path_buf(), home.join(format!("rote-{}", node.stage))];
        for input in &node.inputs {
            if let Source::File(path) = &input.source {
                files.extend(files_of(path)?);
            }
        }
        let mut known = HashSet::new();
        let files: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
        let files: Vec<_> = files.into_iter().filter(|file| known.insert(file.clone())).collect();
        if let Some(odd) = files.iter().find(|file| file.contains(is_special)) {
            return Err(unfit(odd));
        }
        let none = vec![None; nodes.len()];
        let (_, arguments) = scene.command(node, &none, "OUT");
        let cut = scene.stage(node).description.shards && parts > 1;
        let told = estimate(scene, node, &none);
        Ok(Rule {
            name: node.name.clone(),
            comment: command::line(Path::new(&format!("rote-{}", node.stage)), &arguments)
                .replace(char::is_control, " "),
            parents,
            files,
            parts: if cut { parts } else { 1 },
            devices: Some(scene.stage(node).description.devices).filter(|devices| *devices > 0),
            memory: told.as_ref().and_then(|told| told.memory).map(|bytes| bytes * 3 / 2 / 1_000_000 + 256),
            minutes: told.as_ref().and_then(Estimate::took).map(|seconds| (seconds * 2.0 / 60.0) as u64 + 5),
        })
    };
    scene.pipeline.order.iter().map(|index| rule(&nodes[*index])).collect()
}

/// A Makefile.
pub fn make(scene: &Scene, pipeline: &Path, parts: usize) -> Result<String> {
    let (rote, store) = names(scene)?;
    let rules = rules(scene, pipeline, parts)?;
    let name = &scene.pipeline.name;
    let mut text = head(pipeline, "make", "make -j4 -f FILE");
    let _ = write!(
        text,
        "ROTE ?= {}\nSTORE ?= {}\nTHREADS ?= 1\nMADE := $(STORE)/made/{name}\nRUN = $(ROTE) run {} --store $(STORE) \
         --threads $(THREADS) --quiet\n\n.DELETE_ON_ERROR:\n.PHONY: all\nall:",
        of_make(&rote),
        of_make(&store),
        command::quoted(&pipeline.display().to_string()).replace('$', "$$").replace('#', "\\#"),
    );
    rules.iter().for_each(|rule| text += &format!(" $(MADE)/{}", rule.name));
    text += "\n\n$(MADE):\n\tmkdir -p '$@'\n";
    for rule in &rules {
        let parents = rule.parents.iter().map(|parent| format!("$(MADE)/{parent}"));
        let needs: Vec<_> = rule.files.iter().map(|file| of_make(file)).chain(parents).collect();
        let needs = needs.join(" ");
        let Rule { name, comment, parts, .. } = rule;
        let _ = writeln!(text, "\n# {}", comment.trim_end_matches('\\'));
        let mut rule = |target: &str, needs: &str, arguments: &str| {
            let _ =
                writeln!(text, "$(MADE)/{target}: {needs} | $(MADE)\n\t$(RUN) {arguments}\n\t@touch '$@'");
        };
        if *parts == 1 {
            rule(name, &needs, name);
            continue;
        }
        let part = |index: usize| format!("{name}.{index}-of-{parts}");
        for index in 1..=*parts {
            rule(&part(index), &needs, &format!("{name} --shard {index}/{parts}"));
        }
        let all: Vec<_> = (1..=*parts).map(|index| format!("$(MADE)/{}", part(index))).collect();
        rule(name, &all.join(" "), name);
    }
    Ok(text)
}

fn of_make(text: &str) -> String {
    text.replace('$', "$$").replace('#', "\\#").replace(' ', "\\ ")
}

/// A Snakefile.
pub fn snakemake(scene: &Scene, pipeline: &Path, parts: usize) -> Result<String> {
    let (rote, store) = names(scene)?;
    let rules = rules(scene, pipeline, parts)?;
    let mut text = head(pipeline, "snakemake", "snakemake -s FILE --cores 4");
    let _ = write!(
        text,
        "import shlex\n\nROTE = config.get(\"rote\", {})\nSTORE = config.get(\"store\", {})\nMADE = \
         f\"{{STORE}}/made/{}\"\nRUN = f\"{{shlex.quote(ROTE)}} run {} --store {{shlex.quote(STORE)}} --quiet\"\n\n\n\
         rule all:\n    input:\n",
        of_python(&rote),
        of_python(&store),
        scene.pipeline.name,
        command::quoted(&pipeline.display().to_string()),
    );
    rules.iter().for_each(|rule| text += &format!("        f\"{{MADE}}/{}\",\n", rule.name));
    let mut names = HashSet::new();
    for rule in &rules {
        let mut word = rule.name.replace('-', "_");
        while !names.insert(word.clone()) {
            word.push('_');
        }
        let files = rule.files.iter().map(|file| format!("        {},\n", of_python(file)));
        let parents = rule.parents.iter().map(|parent| format!("        f\"{{MADE}}/{parent}\",\n"));
        let needs: String = files.chain(parents).collect();
        let resources: Vec<_> =
            [("mem_mb", rule.memory), ("runtime", rule.minutes), ("gpu", rule.devices.map(u64::from))]
                .into_iter()
                .filter_map(|(name, value)| Some(format!("        {name}={},\n", value?)))
                .collect();
        let resources = if resources.is_empty() {
            String::new()
        } else {
            format!("    resources:\n{}", resources.concat())
        };
        let Rule { name, comment, parts, .. } = rule;
        let mut rule = |word: &str, needs: &str, target: &str, arguments: &str, comment: &str| {
            let _ = write!(
                text,
                "\n\n{comment}rule node_{word}:\n    input:\n{needs}    output:\n        touch({target}),\n    threads: \
                 1\n{resources}    shell:\n        RUN + \" {arguments} --threads {{threads}}\"\n",
            );
        };
        let comment = format!("# {comment}\n");
        let target = format!("f\"{{MADE}}/{name}\"");
        if *parts == 1 {
            rule(&word, &needs, &target, name, &comment);
            continue;
        }
        let part = format!("f\"{{MADE}}/{name}.{{{{part}}}}-of-{parts}\"");
        let arguments = format!("{name} --shard {{wildcards.part}}/{parts}");
        rule(&format!("{word}_part"), &needs, &part, &arguments, &comment);
        let all = format!("        expand({part}, part=range(1, {})),\n", parts + 1);
        rule(&word, &all, &target, name, "# The parts joined.\n");
    }
    text += "\n\nwildcard_constraints:\n    part=r\"\\d+\",\n";
    Ok(text)
}

fn of_python(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\"))
}

fn head(pipeline: &Path, kind: &str, call: &str) -> String {
    format!(
        "# Written by `rote export {kind} {}`; called as `{call}` in the same folder.\n# Every rule runs one node of \
         the pipeline: same binaries, same files, same keys, same store.\n\n",
        pipeline.display()
    )
}
