//! The states of a node and the one loop that moves them.
//!
//! ```text
//! Unknown → Wanted → Ready → Fresh
//!                          ↘ Queued → Running → Done
//!                                             ↘ Failed
//! ```
//! *Wanted*: asked for, or needed by what is. *Ready*: all its inputs are made, so its key can be computed.
//! *Fresh*: that key is in the store. A node whose input failed stays *Wanted*; one that is made in parts is *Queued*
//! again where another's failure keeps its next part from being started. [`Work::set`] makes every change.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use rote_store::{Attempt, Digest, Key, Lock, Memory};

use crate::estimate::earlier;
use crate::interrupt::interrupted;
use crate::limits::Limits;
use crate::names::Name;
use crate::part::{self, Step};
use crate::plan::{Known, Scene, Verdict};
use crate::process::{self, Event};
use crate::progress::Progress;
use crate::shelf::{self, Found, make_folder};
use crate::state::{Ending, Report, State};
use crate::trust::{find, mistaken};

struct Child {
    key: Key,
    /// Held as long as it runs: no other runner makes the same.
    claim: Lock,
    memory: u64,
    way: Way,
    id: u32,
    /// What of the work it does.
    step: Step,
    tail: VecDeque<String>,
}

/// How a node is made.
#[derive(Clone, Copy)]
struct Way {
    threads: usize,
    /// In how many parts, one after the other.
    parts: usize,
}

/// A node that has to run, its key, and why.
struct Queued {
    index: usize,
    key: Key,
    reasons: Vec<String>,
    /// The other runner that makes it, if one does.
    maker: Option<String>,
}

/// The work on one pipeline.
pub struct Work<'a> {
    scene: &'a Scene<'a>,
    limits: &'a Limits,
    memory: &'a mut Memory,
    progress: &'a mut Progress,
    endings: Vec<Ending>,
    known: Vec<Option<Known>>,
    queue: Vec<Queued>,
    running: HashMap<usize, Child>,
    /// What stages said of the work of their nodes.
    sizes: HashMap<usize, Option<part::Work>>,
    /// Keeps `rote collect` away, from the first thing that is made on.
    lock: Option<Lock>,
    code: u8,
}

/// Lines of a failed stage's log that are shown.
const TAIL: usize = 12;

impl<'a> Work<'a> {
    /// Nothing is known yet.
    pub fn new(
        scene: &'a Scene<'a>,
        limits: &'a Limits,
        memory: &'a mut Memory,
        progress: &'a mut Progress,
    ) -> Self {
        let ending = || Ending { state: State::Unknown, seconds: None };
        let endings: Vec<_> = scene.pipeline.nodes.iter().map(|_| ending()).collect();
        let known = vec![None; endings.len()];
        let (queue, running, sizes) = (Vec::new(), HashMap::new(), HashMap::new());
        Work { scene, limits, memory, progress, endings, known, queue, running, sizes, lock: None, code: 0 }
    }

    /// Brings `goals` and all they need up to date.
    pub fn run(mut self, goals: &[usize]) -> Result<Report> {
        self.want(goals);
        let (sender, receiver) = channel();
        let outcome = self.turn(&sender, &receiver);
        if outcome.is_err() || interrupted() {
            self.stop(&receiver);
        }
        outcome?;
        if interrupted() {
            self.code = 130;
        }
        Ok(Report { endings: self.endings, known: self.known, code: self.code })
    }

    fn turn(&mut self, sender: &Sender<(usize, Event)>, receiver: &Receiver<(usize, Event)>) -> Result<()> {
        loop {
            self.settle()?;
            self.start(sender)?;
            let elsewhere = self.queue.iter().any(|queued| queued.maker.is_some());
            if (self.running.is_empty() && !elsewhere) || interrupted() {
                return Ok(());
            }
            match receiver.recv_timeout(Duration::from_millis(100)) {
                Ok((node, Event::Line(line))) => self.heard(node, line),
                Ok((node, Event::Ended(status, time))) => {
                    let child = self.running.remove(&node).expect("only running children end");
                    let before = self.endings[node].seconds.unwrap_or_default();
                    self.endings[node].seconds = Some(before + time.as_secs_f64());
                    self.ended(node, child, status, sender)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("a sender lives on this stack"),
            }
        }
    }

    fn want(&mut self, goals: &[usize]) {
        let wanted = self.scene.wanted(goals);
        for index in (0..wanted.len()).filter(|index| wanted[*index]) {
            self.set(index, State::Wanted);
        }
    }

    /// The only place where a state changes.
    fn set(&mut self, node: usize, state: State) {
        let from = self.endings[node].state;
        assert!(from.leads_to(state), "{}: {from:?} → {state:?}", self.scene.pipeline.nodes[node].name);
        self.endings[node].state = state;
    }

    /// Wanted nodes whose inputs are made become fresh or are queued, as far as that goes without work.
    fn settle(&mut self) -> Result<()> {
        let scene = self.scene;
        for &index in &scene.pipeline.order {
            let node = &scene.pipeline.nodes[index];
            let made = |parent: &usize| self.known[*parent].is_some();
            if self.endings[index].state != State::Wanted || !node.parents().iter().all(made) {
                continue;
            }
            self.set(index, State::Ready);
            match scene.verdict(index, &self.known, self.memory)? {
                Verdict::Fresh(key, result) => self.fresh(index, &key, result)?,
                Verdict::Runs(key, reasons) => {
                    self.set(index, State::Queued);
                    self.queue.push(Queued { index, key, reasons, maker: None });
                }
                Verdict::Waits(..) => unreachable!("all its inputs are made"),
            }
        }
        Ok(())
    }

    fn fresh(&mut self, index: usize, key: &Key, result: Known) -> Result<()> {
        let scene = self.scene;
        self.confirm(index, result.content)?;
        let (pipeline, node) = (&scene.pipeline.name, &scene.pipeline.nodes[index].name);
        // A run that was killed right after its stage ended has not done this, nor has who pasted a command.
        if !scene.shelf.is_settled(pipeline, node, result.key) {
            if !self.enter()? {
                return Ok(());
            }
            scene.shelf.record(key)?;
            scene.shelf.seal(result.key)?;
            scene.shelf.link(pipeline, node, result.key)?;
        }
        self.set(index, State::Fresh);
        self.known[index] = Some(result);
        Ok(())
    }

    /// Queued nodes start as long as there are jobs and threads for them.
    fn start(&mut self, sender: &Sender<(usize, Event)>) -> Result<()> {
        let mut waiting = std::mem::take(&mut self.queue).into_iter();
        while let Some(mut queued) = waiting.next() {
            // Two nodes may ask for the same thing: the second finds what the first makes.
            if self.running.values().any(|child| child.key == queued.key) {
                self.queue.push(queued);
                continue;
            }
            if self.found(&queued)? {
                continue;
            }
            let free = self
                .limits
                .threads
                .saturating_sub(self.running.values().map(|child| child.way.threads).sum());
            let slots = self.limits.jobs.saturating_sub(self.running.len());
            if self.is_stopped() {
                return Ok(());
            }
            if free == 0 || slots == 0 {
                self.queue.push(queued);
                self.queue.extend(waiting);
                return Ok(());
            }
            // One at a time always goes, however large.
            let taken: u64 = self.running.values().map(|child| child.memory).sum();
            let devices: u32 = self.running.keys().map(|index| self.devices(*index)).sum();
            if !self.running.is_empty()
                && (taken + self.memory(queued.index) > self.limits.memory
                    || devices + self.devices(queued.index) > self.limits.devices)
            {
                self.queue.push(queued);
                continue;
            }
            if !self.enter()? {
                return Ok(());
            }
            let claim = match self.scene.shelf.claim(queued.key.digest())? {
                Attempt::Held(claim) => claim,
                Attempt::Busy(maker) => {
                    if queued.maker.as_ref() != Some(&maker) {
                        let name = &self.scene.pipeline.nodes[queued.index].name;
                        self.progress.say(&format!("{name}: another `rote run` makes it ({maker})"));
                    }
                    queued.maker = Some(maker);
                    self.queue.push(queued);
                    continue;
                }
            };
            // Its maker may have ended between the look and the claim.
            if self.found(&queued)? {
                claim.remove();
                continue;
            }
            // What is free is shared among those that could start now.
            let threads = (free / slots.min(waiting.len() + 1)).max(1);
            self.launch(queued, claim, threads, sender)?;
        }
        Ok(())
    }

    /// Whether a failure keeps more from being started.
    fn is_stopped(&self) -> bool {
        self.code != 0 && !self.limits.keep_going
    }

    /// Bytes of memory that a node takes, as far as anybody tells.
    fn memory(&mut self, index: usize) -> u64 {
        match earlier(self.scene, &self.scene.pipeline.nodes[index]) {
            Some(run) => run.memory.unwrap_or(0),
            None => self.size(index).and_then(|work| work.weight_bytes).unwrap_or(0),
        }
    }

    /// What its stage says of the work of a node; asked once.
    fn size(&mut self, index: usize) -> Option<part::Work> {
        let (scene, known) = (self.scene, &self.known);
        *self.sizes.entry(index).or_insert_with(|| part::Work::of(scene, &scene.pipeline.nodes[index], known))
    }

    fn devices(&self, index: usize) -> u32 {
        self.scene.stage(&self.scene.pipeline.nodes[index]).description.devices
    }

    /// Whether the result is there by now.
    fn found(&mut self, queued: &Queued) -> Result<bool> {
        let digest = queued.key.digest();
        let Found::Whole(manifest) = find(self.scene.shelf, &queued.key) else { return Ok(false) };
        let place = self.scene.shelf.place(digest);
        let result = Known { key: digest, content: manifest.content_id, place };
        self.fresh(queued.index, &queued.key, result)?;
        Ok(true)
    }

    /// From now on nobody collects from the store; false where we were interrupted before.
    fn enter(&mut self) -> Result<bool> {
        let root = &self.scene.shelf.root;
        let mut told = false;
        while self.lock.is_none() {
            make_folder(root)?;
            match self.scene.shelf.try_enter()? {
                Attempt::Held(lock) => {
                    Name::of_pipeline(self.scene.shelf, self.scene.pipeline)?.take()?;
                    self.lock = Some(lock);
                }
                Attempt::Busy(_) if interrupted() => return Ok(false),
                Attempt::Busy(holder) => {
                    if !std::mem::replace(&mut told, true) {
                        let root = root.display();
                        self.progress.tell(&format!("rote: waiting for `rote collect` on {root} ({holder})"));
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
        Ok(true)
    }

    fn launch(
        &mut self,
        queued: Queued,
        claim: Lock,
        threads: usize,
        sender: &Sender<(usize, Event)>,
    ) -> Result<()> {
        let Queued { index, key, reasons, .. } = queued;
        let scene = self.scene;
        let node = &scene.pipeline.nodes[index];
        let digest = key.digest();
        // What is damaged, and the seal of what was lost.
        if !matches!(find(scene.shelf, &key), Found::Whole(_)) {
            scene.shelf.remove(digest)?;
        }
        scene.shelf.record(&key)?;
        match reasons.as_slice() {
            [first, rest @ ..] if !self.limits.why && !rest.is_empty() => {
                let more = format!("and {} more (`--why` tells)", rest.len());
                self.progress.say(&format!("{}: runs: {first}, {more}", node.name));
            }
            reasons => self.progress.say(&format!("{}: runs: {}", node.name, reasons.join("; "))),
        }
        self.set(index, State::Running);
        self.progress.start(index, &node.name);
        let way = Way { threads, parts: self.parts(index, digest) };
        if way.parts > 1 {
            scene.shelf.begin(&scene.pipeline.name, &node.name, digest)?;
        }
        let child = self.step(index, key, claim, way, sender, false)?;
        self.running.insert(index, child);
        Ok(())
    }

    /// In how many parts a node's result is made; parts that an interrupted run left are told.
    fn parts(&mut self, index: usize, key: Digest) -> usize {
        let scene = self.scene;
        let node = &scene.pipeline.nodes[index];
        if !scene.stage(node).description.shards || part::complete(scene.shelf, key).is_some() {
            return 1;
        }
        let parts = match self.limits.parts {
            Some(parts) => parts,
            None => self.size(index).map_or(1, |work| usize::from(work.parts).max(1)),
        };
        match part::whole(scene.shelf, key, parts) {
            _ if parts == 1 => {}
            0 => self.progress.say(&format!("{}: made in {parts} parts", node.name)),
            there => self.progress.say(&format!("{}: goes on from {there} of {parts} parts", node.name)),
        }
        parts
    }

    /// Starts what is next to do for a node: all of it, a part, or the joining of all parts.
    fn step(
        &mut self,
        index: usize,
        key: Key,
        claim: Lock,
        way: Way,
        sender: &Sender<(usize, Event)>,
        goes_on: bool,
    ) -> Result<Child> {
        let scene = self.scene;
        let node = &scene.pipeline.nodes[index];
        let step = part::next(scene.shelf, key.digest(), way.parts);
        part::clear(scene.shelf, key.digest(), &step)?;
        let out = step.place(scene.shelf, key.digest()).display().to_string();
        let (program, mut arguments) = scene.command(node, &self.known, &out);
        arguments.extend(step.flags());
        arguments.extend(["--threads", &way.threads.to_string(), "--progress", "plain"].map(str::to_string));
        if let Step::Join(parts) = &step {
            self.progress.say(&format!("{}: joined from {} parts", node.name, parts.len()));
        }
        let log = scene.shelf.log(&scene.pipeline.name, &node.name);
        let id = process::start(index, &program, &arguments, &log, goes_on, sender.clone())
            .with_context(|| node.name.clone())?;
        let memory = self.memory(index);
        Ok(Child { key, claim, memory, way, id, step, tail: VecDeque::new() })
    }

    fn heard(&mut self, node: usize, line: String) {
        self.progress.heard(node, &line);
        if let Some(child) = self.running.get_mut(&node) {
            child.tail.push_back(line);
            if child.tail.len() > TAIL {
                child.tail.pop_front();
            }
        }
    }

    fn ended(
        &mut self,
        index: usize,
        child: Child,
        status: std::io::Result<std::process::ExitStatus>,
        sender: &Sender<(usize, Event)>,
    ) -> Result<()> {
        let scene = self.scene;
        let name = &scene.pipeline.nodes[index].name;
        let status = status.with_context(|| format!("{name}: waiting for it"))?;
        let settled = match &child.step {
            Step::Part(part) if status.success() => Some(part::settle(scene.shelf, &child.key, *part)),
            _ => None,
        };
        if let (Step::Part(part), Some(Ok(_))) = (&child.step, &settled) {
            self.progress.say(&format!("{name}: part {part} done"));
            if self.is_stopped() {
                self.progress.end(index);
                self.set(index, State::Queued);
                child.claim.remove();
                return Ok(());
            }
            let next = self.step(index, child.key, child.claim, child.way, sender, true)?;
            self.running.insert(index, next);
            return Ok(());
        }
        self.progress.end(index);
        let outcome = match settled {
            Some(Err(error)) => Err(format!("{error:#}")),
            _ if status.success() => self.collected(&child.key),
            _ => Err(status.to_string()),
        };
        match outcome {
            Ok(result) => {
                scene.shelf.seal(result.key)?;
                scene.shelf.link(&scene.pipeline.name, name, result.key)?;
                let seconds = self.endings[index].seconds.unwrap_or_default();
                let content = result.content.short();
                self.progress.say(&format!("{name}: done in {seconds:.1} s, content {content}"));
                self.set(index, State::Done);
                self.confirm(index, result.content)?;
                self.known[index] = Some(result);
            }
            Err(cause) => {
                self.set(index, State::Failed);
                let code = status.code().and_then(|code| u8::try_from(code).ok());
                let code = code.filter(|code| [2, 3].contains(code)).unwrap_or(1);
                self.code = if self.code == 0 { code } else { self.code };
                if !interrupted() {
                    let log = scene.shelf.log(&scene.pipeline.name, name);
                    self.progress.tell(&format!("{name}: failed: {cause}; its log is {}", log.display()));
                    child.tail.iter().for_each(|line| self.progress.tell(&format!("  {line}")));
                }
            }
        }
        // Joined, or not to be joined: parts that made this fail must not make it fail again.
        if !matches!(child.step, Step::Part(_)) {
            for (_, place) in part::of(scene.shelf, child.key.digest()) {
                let _ = shelf::remove(&place);
            }
        }
        child.claim.remove();
        Ok(())
    }

    fn confirm(&self, index: usize, content: Digest) -> Result<()> {
        let name = &self.scene.pipeline.nodes[index].name;
        self.limits.pins.as_ref().map_or(Ok(()), |pins| pins.confirm(name, content))
    }

    /// The result that a stage left, if it is the one that was asked for.
    fn collected(&mut self, key: &Key) -> Result<Known, String> {
        let digest = key.digest();
        let manifest = match self.scene.shelf.find(digest) {
            Found::Whole(manifest) => manifest,
            Found::Absent => return Err("it ended well but left no artifact".to_string()),
            Found::Damaged(damage) => {
                return Err(format!("it ended well but left a damaged artifact: {damage}"));
            }
        };
        let place = self.scene.shelf.place(digest);
        if let Some(changed) = mistaken(&place, &manifest, key) {
            let _ = self.scene.shelf.remove(digest);
            return Err(format!("its {changed} changed while it ran; the result is dropped, run again"));
        }
        Ok(Known { key: digest, content: manifest.content_id, place })
    }

    /// Ends the children and waits for them.
    fn stop(&mut self, receiver: &Receiver<(usize, Event)>) {
        self.running.values().for_each(|child| process::stop(child.id));
        while !self.running.is_empty() {
            match receiver.recv() {
                Ok((node, Event::Ended(..))) => {
                    if let Some(child) = self.running.remove(&node) {
                        child.claim.remove();
                    }
                    self.progress.end(node);
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}
