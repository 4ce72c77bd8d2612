//! The door of `rote-bound`.

fn main() {}
