//! The door of `rote-report`.

fn main() {}
