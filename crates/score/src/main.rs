//! The door of `rote-score`.

fn main() -> std::process::ExitCode {
    rote_stage::main::<rote_score::Score>(env!("CARGO_PKG_VERSION"))
}
