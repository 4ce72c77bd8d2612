//! The door of `rote-train`.

fn main() {}
