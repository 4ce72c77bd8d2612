//! The door of `rote-prepare`.

fn main() -> std::process::ExitCode {
    rote_stage::main::<rote_prepare::Prepare>(env!("CARGO_PKG_VERSION"))
}
