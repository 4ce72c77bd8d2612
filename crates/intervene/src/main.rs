//! The door of `rote-intervene`.

fn main() -> std::process::ExitCode {
    rote_stage::main::<rote_intervene::Intervene>(env!("CARGO_PKG_VERSION"))
}
