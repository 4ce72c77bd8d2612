//! The door of `rote-bound`.

fn main() -> std::process::ExitCode {
    rote_stage::main::<rote_bound::Bound>(env!("CARGO_PKG_VERSION"))
}
