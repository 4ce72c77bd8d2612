//! Where a node stands, how it may move on, and what became of it.

use crate::plan::Known;

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not asked for.
    Unknown,
    /// To be known.
    Wanted,
    /// Its inputs are made.
    Ready,
    /// Its result was there.
    Fresh,
    /// Has to run.
    Queued,
    /// Runs.
    Running,
    /// Ran, its result is there.
    Done,
    /// Ran or tried to, there is no result.
    Failed,
}

impl State {
    /// Whether a node may go from here to `next`.
    pub fn leads_to(self, next: State) -> bool {
        use State::*;
        matches!(
            (self, next),
            (Unknown, Wanted)
                | (Wanted, Ready)
                | (Ready, Fresh | Queued)
                | (Queued, Fresh | Running | Failed)
                | (Running, Done | Failed | Queued)
        )
    }
}

/// What became of a node.
pub struct Ending {
    /// Its last state.
    pub state: State,
    /// How long it ran.
    pub seconds: Option<f64>,
}

/// What became of all nodes.
pub struct Report {
    /// By index of the node.
    pub endings: Vec<Ending>,
    /// Results, by index of the node.
    pub known: Vec<Option<Known>>,
    /// Exit code of the whole.
    pub code: u8,
}
