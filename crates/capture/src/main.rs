//! The door of `rote-capture`.

fn main() -> std::process::ExitCode {
    rote_stage::main::<rote_capture::Capture>(env!("CARGO_PKG_VERSION"))
}
