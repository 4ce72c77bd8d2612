//! The door of `rote-report`.

fn main() -> std::process::ExitCode {
    rote_stage::main::<rote_report::Report>(env!("CARGO_PKG_VERSION"))
}
