//! The door of `rote-extract`.

fn main() -> std::process::ExitCode {
    rote_stage::main::<rote_extract::Extract>(env!("CARGO_PKG_VERSION"))
}
