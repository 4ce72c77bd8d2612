//! The door of `rote-capture`.

fn main() {}
