//! The door of `rote-score`.

fn main() {}
