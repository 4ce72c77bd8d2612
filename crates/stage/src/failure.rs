//! From an error to a message and an exit code.

use rote_artifact::Misfit;
use rote_store::Damaged;

/// 3 where data do not fit what is asked of them, 1 for everything else.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<Misfit>() || cause.is::<Damaged>()) { 3 } else { 1 }
}

/// `stage: outermost: … : cause`, on one line.
pub(crate) fn message(stage: &str, error: &anyhow::Error) -> String {
    format!("{stage}: {error:#}")
}

/// Whether the reader of our output went away, which is no failure.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
