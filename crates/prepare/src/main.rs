//! The door of `rote-prepare`.

fn main() {}
