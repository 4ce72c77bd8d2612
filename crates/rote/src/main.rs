//! The door of `rote`.

fn main() {}
