//! The door of `rote-extract`.

fn main() {}
