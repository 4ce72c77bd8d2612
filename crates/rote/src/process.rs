//! One child: started so that it can't outlive the runner, heard line by line, waited for.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command;
use crate::shelf::make_folder;

/// What a child does.
pub enum Event {
    /// It wrote a line.
    Line(String),
    /// It ended, after so long.
    Ended(std::io::Result<ExitStatus>, Duration),
}

/// Starts `program`; what it writes goes to `log` (after what is there, if it `goes_on`), what it does to `events`, marked with `node`.
///
/// Called on the main thread only: the kernel ends the child when the *thread* that started it ends.
pub fn start(
    node: usize,
    program: &Path,
    arguments: &[String],
    log: &Path,
    goes_on: bool,
    events: Sender<(usize, Event)>,
) -> Result<u32> {
    let starting = || format!("starting {}", program.display());
    if let Some(folder) = log.parent() {
        make_folder(folder)?;
    }
    let mut log = File::options()
        .create(true)
        .write(true)
        .append(goes_on)
        .truncate(!goes_on)
        .open(log)
        .with_context(|| format!("writing {}", log.display()))?;
    writeln!(log, "$ {}", command::line(program, arguments))?;
    let (reader, writer) = std::io::pipe().with_context(starting)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(writer.try_clone().with_context(starting)?).stderr(writer);
    die_with_parent(&mut command);
    let began = Instant::now();
    let mut child = command.spawn().with_context(starting)?;
    // It holds the writing end of the pipe, which must close with the child.
    drop(command);
    let id = child.id();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            // A full disk must not stop the stage: it will say so itself.
            let _ = log.write_all(&line);
            let text = String::from_utf8_lossy(&line).trim_end().to_string();
            let _ = events.send((node, Event::Line(text)));
            line.clear();
        }
        let status = child.wait();
        let _ = events.send((node, Event::Ended(status, began.elapsed())));
    });
    Ok(id)
}

/// Asks a child to end.
pub fn stop(id: u32) {
    if let Ok(id) = i32::try_from(id) {
        // SAFETY: a plain system call; `id` is a child that was not waited for yet, so the number is still its.
        unsafe { libc::kill(id, libc::SIGTERM) };
    }
}

/// The kernel ends the child when the thread that started it ends.
#[cfg(target_os = "linux")]
pub fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let parent = std::process::id();
    // SAFETY: between fork and exec only system calls are made, nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The runner may have died before the line above.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// Not to be had here.
#[cfg(not(target_os = "linux"))]
pub fn die_with_parent(_command: &mut Command) {}
