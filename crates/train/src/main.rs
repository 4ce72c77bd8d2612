//! The door of `rote-train`.

fn main() -> std::process::ExitCode {
    rote_stage::main::<rote_train::Train>(env!("CARGO_PKG_VERSION"))
}
